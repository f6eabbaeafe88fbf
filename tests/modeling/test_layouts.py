# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The model on layouts and views of unequal size: order of features, newlines, places, beams, refusals."""

from typing import Any

import pytest
import torch

from fila import FilaProcessor
from tests.helpers import (
    assert_close,
    random_image,
    single_tower,
    tiny_config,
    tiny_image_processor,
    tiny_model,
    tiny_tokenizer,
)
from tests.tiny_videos import video_model, video_processor

WIDE, TALL = random_image(25, 70, seed=1), random_image(60, 20, seed=2)
UNEQUAL: dict[str, Any] = {"canvas": {"type": "minicpm", "patch_size": 7}, "high_res_size": None}


def processor_with(layout: dict[str, Any], **images: Any) -> FilaProcessor:
    return FilaProcessor(
        tiny_image_processor(**images), tiny_tokenizer(), tokens_per_tile=16, token_size=7, layout=layout
    )


def batch(processor: FilaProcessor, padding_side: str = "left") -> Any:
    return processor(
        text=["<image> and <image>", "x<image>"],
        images=[[WIDE, TALL], [TALL]],
        padding=True,
        padding_side=padding_side,
        return_tensors="pt",
    )


def features(model: Any, inputs: Any) -> list[torch.Tensor]:
    images = {name: value for name, value in inputs.items() if name not in ("input_ids", "attention_mask")}
    found: list[torch.Tensor] = model.get_image_features(**images).pooler_output
    return found


@torch.no_grad()
def test_overview_last_puts_its_features_last() -> None:
    model = tiny_model()
    first = features(model, batch(processor_with({"type": "fila"})))
    last = features(model, batch(processor_with({"type": "internvl"})))
    for one, other in zip(first, last, strict=True):
        assert_close(torch.cat([one[16:], one[:16]]), other)


@torch.no_grad()
def test_newline_vector_ends_every_row() -> None:
    model = tiny_model(image_newline=True)
    inputs = batch(processor_with({"type": "llava_next"}, canvas={"type": "llava_next"}))
    for tokens, index in zip(features(model, inputs), inputs["image_token_index"], strict=True):
        newlines = (index[index >= -1] == -1).nonzero().flatten().tolist()
        assert newlines
        assert all(torch.equal(tokens[row], model.model.image_newline) for row in newlines)


@torch.no_grad()
def test_unequal_views_do_not_depend_on_their_neighbours() -> None:
    model = tiny_model(**single_tower())
    processor = processor_with({"type": "fila"}, **UNEQUAL)
    together = features(model, batch(processor))
    for image, expected in ((WIDE, together[0]), (TALL, together[1])):
        (alone,) = features(model, processor(text="<image>", images=image, return_tensors="pt"))
        assert_close(alone, expected, 2e-5)
    arrays = processor(text=["<image> and <image>", "x<image>"], images=[[WIDE, TALL], [TALL]])
    lists = {name: [torch.as_tensor(row) for row in rows] for name, rows in arrays.items()}
    listed = features(model, lists)
    for one, other in zip(together, listed, strict=True):
        assert_close(one, other, 2e-5)


def test_gradient_reaches_every_vision_parameter_through_unequal_views() -> None:
    model = tiny_model(image_newline=True, slice_positions=9, **single_tower())
    layout = {"type": "internvl", "slice_positions": True}
    inputs = batch(processor_with(layout, **UNEQUAL))
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    silent = [
        name
        for name, parameter in model.named_parameters()
        if "language_model" not in name and (parameter.grad is None or not parameter.grad.abs().max() > 0)
    ]
    assert silent == ["model.image_newline"]  # this layout has no rows of tokens


def test_videos_alone_give_every_parameter_a_gradient_in_training() -> None:
    model = video_model({"type": "mlp"}, image_newline=True, slice_positions=9).train()
    video = [random_image(28, 30, seed=seed) for seed in range(2)]
    batch = video_processor(model)(text="a <video> b", videos=[video], return_tensors="pt")
    model(**batch, labels=batch["input_ids"]).loss.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_text_alone_gives_every_parameter_a_gradient_in_training() -> None:
    model = tiny_model(image_newline=True, slice_positions=9, **single_tower()).train()
    ids = torch.tensor([[7, 8, 9]])
    model(input_ids=ids, labels=ids).loss.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@torch.no_grad()
def test_slice_positions_tell_tiles_apart() -> None:
    model = tiny_model(slice_positions=9, **single_tower())
    inputs = batch(processor_with({"type": "fila", "slice_positions": True}, **UNEQUAL))
    before = features(model, inputs)
    inputs["view_positions"][0, 1], inputs["view_positions"][0, 2] = (
        inputs["view_positions"][0, 2].clone(),
        inputs["view_positions"][0, 1].clone(),
    )
    after = features(model, inputs)
    assert not torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize(
    ("layout", "canvas"),
    [("llava_uhd", "minicpm"), ("llava_next", "llava_next"), ("fila", "native")],
)
def test_generation_answers_as_one_by_one(layout: str, canvas: str, beams: int) -> None:
    equal = canvas == "llava_next"
    model = tiny_model(image_newline=True, **({} if equal else single_tower()))
    options = {"type": canvas} | ({} if equal else {"patch_size": 7})
    processor = processor_with({"type": layout}, canvas=options, **({} if equal else {"high_res_size": None}))
    settings = {"max_new_tokens": 4, "num_beams": beams, "do_sample": False, "eos_token_id": -1, "pad_token_id": 0}
    together = model.generate(**batch(processor), **settings)[:, -4:]
    for row, (text, images) in zip(
        together, [("<image> and <image>", [WIDE, TALL]), ("x<image>", [TALL])], strict=True
    ):
        alone = model.generate(**processor(text=[text], images=[images], return_tensors="pt"), **settings)
        assert alone[0, -4:].tolist() == row.tolist()


@torch.no_grad()
def test_a_missing_placeholder_is_refused_in_runs_too() -> None:
    model = tiny_model()
    inputs = batch(processor_with({"type": "internvl"}))
    row = inputs["input_ids"][1]
    row[(row == model.config.image_token_id).nonzero()[3]] = 7
    with pytest.raises(ValueError, match=r"Image 2 has \d+ image tokens, but sample 1 holds only \d+ placeholders"):
        model(**inputs)


@torch.no_grad()
def test_unequal_views_and_a_high_res_tower_are_refused() -> None:
    inputs = batch(processor_with({"type": "fila"}, **UNEQUAL))
    inputs["high_res_pixel_values"] = torch.zeros(3, 3, 128, 128)
    inputs["high_res_sizes"] = torch.full((3, 2), 128)
    with pytest.raises(ValueError, match=r"`patch_grids` says that the views differ in size; a model with a high-res"):
        tiny_model()(**inputs)


@torch.no_grad()
def test_grids_that_contradict_the_pixels_are_refused() -> None:
    inputs = batch(processor_with({"type": "fila"}, **UNEQUAL))
    inputs["patch_grids"][1, 0, 0] = 99
    with pytest.raises(ValueError, match=r"Image 1 has views of \[.*\] patches by its `patch_grids`, but"):
        tiny_model(**single_tower())(**inputs)


@torch.no_grad()
def test_patches_of_another_size_are_refused() -> None:
    canvas = {"type": "native", "patch_size": 14, "max_patches": 60}
    processor = FilaProcessor(tiny_image_processor(canvas=canvas, high_res_size=None), tiny_tokenizer(), token_size=14)
    inputs = processor(text="<image>", images=WIDE, return_tensors="pt")  # as many tokens as placeholders
    with pytest.raises(ValueError, match=r"The patches of image 0 must have 7x7 pixels; `pixel_values` holds 14x14\."):
        tiny_model(**single_tower())(**inputs)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["tensor", "list"])
def test_views_of_another_size_are_refused(kind: str) -> None:
    high_res = {"height": 256, "width": 256}
    images = tiny_image_processor(size={"height": 56, "width": 56}, high_res_size=high_res)
    inputs = images(WIDE, return_tensors="pt")
    if kind == "list":
        inputs["pixel_values"] = list(inputs["pixel_values"])
    with pytest.raises(ValueError, match=r"The views of image 0 must have 28x28 pixels; `pixel_values` holds 56x56\."):
        tiny_model().get_image_features(**inputs)


@torch.no_grad()
@pytest.mark.parametrize("of_the_model", [False, True])
def test_slice_positions_must_be_on_both_sides(of_the_model: bool) -> None:
    layout = {"type": "fila", "slice_positions": not of_the_model}
    model = tiny_model(slice_positions=9 if of_the_model else 0)
    holder, other = ("model", "processor") if of_the_model else ("processor", "model")
    with pytest.raises(ValueError, match=rf"The {holder} has slice positions and the {other} has none: set both"):
        model(**batch(processor_with(layout)))


@torch.no_grad()
def test_a_tile_beyond_the_slice_positions_is_refused() -> None:
    model = tiny_model(slice_positions=2)
    with pytest.raises(
        ValueError, match=r"`slice_positions` holds 2 rows and columns of tiles; an image has a tile at"
    ):
        model(**batch(processor_with({"type": "fila", "slice_positions": True})))


def test_newline_is_off_unless_asked_for() -> None:
    names = dict(tiny_model().named_parameters())
    assert not [name for name in names if "newline" in name or "slice" in name]
    assert tiny_config(image_newline=True).to_dict()["image_newline"] is True
