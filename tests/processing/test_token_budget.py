# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Limits of image tokens: sizes that keep them, and what the processor does with a prompt over one."""

import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fila.processing.canvas import CANVASES
from fila.processing.chat_template import DEFAULT_CHAT_TEMPLATE
from fila.processing.image_input import ImageInputError
from fila.processing.processing_fila import POLICIES, FilaProcessor
from fila.processing.token_budget import fit_prompt
from tests.cases import each
from tests.helpers import random_image, tiny_canvas, tiny_canvas_processor

SIDES = st.integers(1, 3000)


def area(height: int, width: int) -> int:
    """Tokens of a strategy without steps."""
    return -(-height * width // 196)


def rough(height: int, width: int) -> int:
    """Tokens of a strategy that is not monotonic."""
    return (height // 100 + 1) * (width // 100 + 1) + 7 * (height % 3 == 0)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=6),
    st.sampled_from([area, rough]),
    st.none() | st.integers(1, 900),
    st.none() | st.integers(1, 2000),
)
def test_fit_prompt_keeps_both_limits(
    sizes: list[tuple[int, int]], count: Any, per_image: int | None, per_prompt: int | None
) -> None:
    fitted = fit_prompt(sizes, count, per_image=per_image, per_prompt=per_prompt)
    least = [min(count(max(1, h * k // 64), max(1, w * k // 64)) for k in range(1, 65)) for h, w in sizes]
    impossible = max(least) > (per_image or 10**6) or sum(least) > (per_prompt or 10**6)
    assert (fitted is None) == impossible
    if fitted is None:
        return
    tokens = [count(*size) for size in fitted]
    assert per_image is None or max(tokens) <= per_image
    assert per_prompt is None or sum(tokens) <= per_prompt
    for size, own in zip(fitted, sizes, strict=True):
        assert 1 <= size[0] <= own[0]
        assert 1 <= size[1] <= own[1]


def test_fit_prompt_leaves_alone_what_fits() -> None:
    assert fit_prompt([(50, 70), (3, 5)], area, per_image=1000, per_prompt=2000) == [(50, 70), (3, 5)]
    assert fit_prompt([], area, per_prompt=1) == []


def test_fit_prompt_shrinks_large_images_and_keeps_small_ones() -> None:
    fitted = fit_prompt([(1400, 1400), (140, 140), (1400, 1400)], area, per_prompt=8000)
    assert fitted is not None
    assert fitted[1] == (140, 140)
    first, second = area(*fitted[0]), area(*fitted[2])
    assert 0 <= first - second <= 0.04 * first
    assert 7500 < first + second + 100 <= 8000


def test_fit_prompt_gives_none_where_nothing_fits() -> None:
    assert fit_prompt([(50, 70)], lambda height, width: 5, per_image=4) is None
    assert fit_prompt([(50, 70), (3, 5)], lambda height, width: 5, per_prompt=9) is None


# --- the processor ---


# Strategies whose own options here make images of several sizes cost tokens that a limit can cut.
OPTIONS: dict[str, dict[str, Any]] = {"internvl": {"max_tiles": 4}, "square_pad": {"grid": 1, "overview": False}}


def processor(canvas: str = "fila", **limits: Any) -> FilaProcessor:
    return tiny_canvas_processor({**tiny_canvas(canvas), **OPTIONS.get(canvas, {})}, **limits)


def expanded(made: FilaProcessor, sizes: list[tuple[int, int]]) -> list[int]:
    """Placeholders of each image of one prompt."""
    images = [random_image(*size) for size in sizes]
    batch = made(text=["<image>|" * len(sizes)], images=[images], return_mm_token_type_ids=False)
    bar = made.tokenizer.convert_tokens_to_ids("|")
    kinds = "".join({made.image_token_id: "i", bar: "|"}[token] for token in batch["input_ids"][0])
    return [len(run) for run in kinds.split("|")[:-1]]


SIZES = [(90, 90), (30, 30), (28, 84), (13, 200)]
LIMITS = [
    {"max_image_tokens": 48},
    {"max_prompt_image_tokens": 200},
    {"max_image_tokens": 64, "max_prompt_image_tokens": 230},
    {"max_image_tokens": 80, "max_prompt_image_tokens": 320},
]
# InternVL's grid follows the aspect ratio, which shrinking keeps: 28x84 pixels have 4 views of 16 tokens at any size.
IMPOSSIBLE = [("internvl", LIMITS[0])]


@each("limits", LIMITS, ids=str)
@each("canvas", CANVASES)
def test_predicted_tokens_are_the_expanded_ones_when_images_shrink(canvas: str, limits: dict[str, int]) -> None:
    made = processor(canvas, image_token_policy="shrink_images", **limits)
    if (canvas, limits) in IMPOSSIBLE:
        with pytest.raises(ImageInputError, match="even at the least"):
            made._get_num_multimodal_tokens(image_sizes=SIZES)
        with pytest.raises(ImageInputError, match="even at the least"):
            expanded(made, SIZES)
        return
    predicted = made._get_num_multimodal_tokens(image_sizes=SIZES).num_image_tokens
    assert predicted == expanded(made, SIZES)
    assert max(predicted) <= limits.get("max_image_tokens", max(predicted))
    assert sum(predicted) <= limits.get("max_prompt_image_tokens", sum(predicted))


@each("policy", POLICIES)
@each("canvas", CANVASES)
def test_predicted_tokens_are_the_expanded_ones_within_the_limits(canvas: str, policy: str) -> None:
    made = processor(canvas, image_token_policy=policy, max_image_tokens=10_000, max_prompt_image_tokens=10_000)
    assert made._get_num_multimodal_tokens(image_sizes=SIZES).num_image_tokens == expanded(made, SIZES)
    assert expanded(made, SIZES) == expanded(processor(canvas), SIZES)


def test_error_names_the_image() -> None:
    made = processor(max_image_tokens=64)
    message = r"^Image 1 of sample 1 has 80 image tokens, and `max_image_tokens` is 64. Raise the limit, or set"
    with pytest.raises(ImageInputError, match=message):
        made(text=["a", "<image><image>"], images=[[], [random_image(28, 28), random_image(56, 56)]])
    with pytest.raises(ImageInputError, match=r"^Image 0 of sample 0 has 80 image tokens"):
        made._get_num_multimodal_tokens(image_sizes=[(56, 56)])


def test_error_names_the_sample() -> None:
    made = processor(max_prompt_image_tokens=100)
    message = r"^The 2 images of sample 1 have \[48, 80\] image tokens, in all 128, and `max_prompt_image_tokens` i"
    with pytest.raises(ValueError, match=message):
        made(text=["a", "<image><image>"], images=[[], [random_image(28, 28), random_image(56, 56)]])


def test_error_when_shrinking_is_not_enough() -> None:
    made = processor(max_image_tokens=47, image_token_policy="shrink_images")
    with pytest.raises(ImageInputError, match=r"is 47, even at the least. Raise the limit, or send fewer images"):
        made(text="<image>", images=random_image(56, 56))


def test_flat_images_are_counted_prompt_by_prompt() -> None:
    made = processor(max_prompt_image_tokens=100)
    images = [random_image(28, 28), random_image(56, 56), random_image(28, 28)]
    assert len(made(text=["<image>", "<image>", "<image>"], images=images)["input_ids"]) == 3
    with pytest.raises(ValueError, match=r"The 2 images of sample 1 have \[80, 48\] image tokens"):
        made(text=["<image>", "<image><image>"], images=images)


def test_samples_over_a_limit_are_dropped_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    made = processor(max_image_tokens=48, image_token_policy="drop_sample")
    images = [[random_image(28, 28)], [random_image(56, 56)], []]
    logging.getLogger("transformers").propagate = True
    with caplog.at_level("WARNING"):
        batch = made(text=["<image>b", "<image>c", "d"], images=images)
    plain = processor()(text=["<image>b", "d"], images=[images[0], []])
    assert batch["input_ids"] == plain["input_ids"]
    assert len(batch["view_boxes"]) == 1


def test_budget_reads_arrays_in_the_format_of_the_call() -> None:
    made = processor(max_image_tokens=48, image_token_policy="shrink_images")
    ambiguous = np.zeros((3, 99, 3), np.uint8)
    batch = made(text="<image>", images=ambiguous, input_data_format="channels_last")
    assert batch["input_ids"][0].count(made.image_token_id) == 48


def test_fractions_that_are_not_rescaled_are_not_shrunk() -> None:
    made = processor(max_image_tokens=48, image_token_policy="shrink_images")
    fractions = np.full((56, 56, 3), 0.5, np.float32)
    with pytest.raises(ImageInputError, match=r"has floats within 0..1, which `shrink_images` keeps only with `do_re"):
        made(text="<image>", images=fractions, do_rescale=False)
    for image in (fractions[:28, :28], (fractions * 255).round()):
        batch = made(text="<image>", images=image, do_rescale=False, do_normalize=False, return_tensors="np")
        assert batch["pixel_values"].max() == pytest.approx(image.max(), rel=0.01)


def test_dropping_every_sample_is_an_error() -> None:
    made = processor(max_image_tokens=48, image_token_policy="drop_sample")
    with pytest.raises(ValueError, match=r"No sample keeps the limits of image tokens"):
        made(text="<image>", images=random_image(56, 56))


def chat(text: str, image: Any = None) -> list[dict[str, Any]]:
    content = [{"type": "image", "image": image}] if image is not None else []
    content.append({"type": "text", "text": f"{text}?"})
    return [
        {"role": "user", "content": content},
        {"role": "assistant", "content": [{"type": "text", "text": text}]},
    ]


def test_assistant_masks_are_dropped_with_their_samples() -> None:
    """The masks of what is kept are those it has alone; answers differ in length, so no other's would fit."""
    small, large = random_image(28, 28), random_image(56, 56)
    chats = [chat("aa", small), chat("bbbbb", large), chat("c"), chat("ddd", small), chat("eeeeeee", large)]
    options: dict[str, Any] = {
        "tokenize": True,
        "return_dict": True,
        "return_assistant_tokens_mask": True,
        "chat_template": DEFAULT_CHAT_TEMPLATE,
        "return_tensors": None,
    }
    made = processor(max_image_tokens=48, image_token_policy="drop_sample")
    batch = made.apply_chat_template(chats, **options)
    plain = processor().apply_chat_template([chats[0], chats[2], chats[3]], **options)
    for name in ("input_ids", "assistant_masks"):
        assert [list(row) for row in batch[name]] == [list(row) for row in plain[name]]
    assert [sum(row) for row in batch["assistant_masks"]] == [len(text) + 1 for text in ("aa", "c", "ddd")]
    # A call after it, in which nothing is dropped, has all of them.
    again = made.apply_chat_template([chats[2], chats[3], chats[0]], **options)
    assert [sum(row) for row in again["assistant_masks"]] == [len(text) + 1 for text in ("c", "ddd", "aa")]


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_image_tokens": 0}, r"`max_image_tokens` must be a positive integer or None; got 0"),
        ({"max_prompt_image_tokens": "9"}, r"`max_prompt_image_tokens` must be a positive integer or None; got '9'"),
        ({"image_token_policy": "shrink"}, r"`image_token_policy` must be one of \['error', 'drop_sample', 'shrink_"),
    ],
)
def test_processor_rejects_limits(limits: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        processor(**limits)


def test_limits_are_saved(tmp_path: Any) -> None:
    processor(max_image_tokens=48, image_token_policy="shrink_images").save_pretrained(tmp_path)
    loaded = FilaProcessor.from_pretrained(tmp_path)
    assert (loaded.max_image_tokens, loaded.image_token_policy) == (48, "shrink_images")
