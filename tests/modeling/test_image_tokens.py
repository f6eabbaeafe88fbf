# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest
import torch

from fila.modeling.image_tokens import images_per_sample, select_tokens, uncached_rows
from tests.helpers import random_image, tiny_model, tiny_processor


def runs(*rows: str) -> torch.Tensor:
    """`#` is a placeholder."""
    return torch.tensor([[character == "#" for character in row] for row in rows])


@pytest.mark.parametrize(
    ("rows", "lengths", "expected"),
    [
        pytest.param(["..###.", "......"], [3], [1, 0], id="one-image-and-text-only"),
        pytest.param(["#####"], [2, 3], [2], id="adjacent-images-share-a-run"),
        pytest.param(["##.###", ".####."], [2, 3, 4], [2, 1], id="two-samples"),
        pytest.param(["....", "##.."], [2], [0, 1], id="text-only-first"),
        pytest.param(["...."], [], [0], id="no-image"),
    ],
)
def test_images_per_sample_counts(rows: list[str], lengths: list[int], expected: list[int]) -> None:
    assert images_per_sample(runs(*rows), lengths) == expected


@pytest.mark.parametrize(
    ("rows", "lengths", "message"),
    [
        pytest.param(
            ["###.", "#..."],
            [2, 2],
            r"Image 1 has 2 image tokens, but sample 0 holds only 1 placeholders",
            id="totals-agree",
        ),
        pytest.param(["##.###"], [3, 2], r"Image 0 has 3 image tokens, but its run in sample 0 holds 2", id="swapped"),
        pytest.param(["###"], [2], r"Sample 0 has 1 placeholders left after its 1 images", id="one-too-many"),
        pytest.param(
            ["##.", "..."], [2, 3], r"Image 1 has 3 image tokens, but no sample has placeholders left", id="spare"
        ),
    ],
)
def test_images_per_sample_rejects_the_first_mismatch(rows: list[str], lengths: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        images_per_sample(runs(*rows), lengths)


def test_a_placeholder_too_many_may_have_been_generated() -> None:
    with pytest.raises(ValueError, match="or a model generated placeholders, which the `suppress_tokens` of its"):
        images_per_sample(runs("##.#"), [2])


def test_an_image_without_any_placeholder_may_be_of_an_earlier_turn() -> None:
    with pytest.raises(
        ValueError, match=r"for it: the batch has none at all\. .*With a cache of earlier turns pass only"
    ):
        images_per_sample(runs("...."), [2])


def test_rows_that_a_cache_does_not_hold() -> None:
    placeholders = runs("##.###.#", "....##..")
    assert uncached_rows(placeholders, [2, 3, 1, 2], [3, 1], 3) == [1, 2, 3]
    assert uncached_rows(placeholders, [2, 3, 1, 2], [3, 1], 7) == [2]
    with pytest.raises(
        ValueError, match=r"The cache of 5 tokens ends inside image 1, of sample 0: it holds 2 of its 3"
    ):
        uncached_rows(placeholders, [2, 3, 1, 2], [3, 1], 5)


def test_model_names_sample_image_and_counts_when_a_placeholder_is_lost() -> None:
    model, processor = tiny_model(), tiny_processor()
    images = [[random_image(20, 50)], [random_image(60, 60), random_image(20, 50)]]
    inputs = processor(text=["<image> a", "<image> b <image>"], images=images, padding=True, return_tensors="pt")
    row = inputs["input_ids"][1]
    row[(row == processor.image_token_id).nonzero()[0]] = processor.tokenizer.pad_token_id
    with pytest.raises(
        ValueError, match=r"Image 1 has 80 image tokens, but its run in sample 1 holds 79 .*`tokens_per_tile`"
    ):
        model(**inputs)


def test_tokens_are_selected_in_the_order_of_the_placeholders() -> None:
    tokens, newline = torch.randn(5, 3), torch.randn(3)
    found = select_tokens(tokens, torch.tensor([3, 4, -1, 0, -2, -2]), newline, 0)
    assert torch.equal(found, torch.stack([tokens[3], tokens[4], newline, tokens[0]]))
    assert torch.equal(select_tokens(tokens, torch.tensor([1, -2]), None, 0), tokens[1:2])


def test_selecting_a_token_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`image_token_index` names token 5 of image 3, which has 5 tokens\. "):
        select_tokens(torch.randn(5, 3), torch.tensor([0, 5]), None, 3)


def test_newlines_without_a_vector_are_refused() -> None:
    with pytest.raises(ValueError, match=r"The layout of image 2 has newline vectors, but the model has none\. Set"):
        select_tokens(torch.randn(5, 3), torch.tensor([0, -1]), None, 2)
