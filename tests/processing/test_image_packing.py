# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Images in one row of floats and one of integers: the model finds in them exactly what the processor returns."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fila import FilaProcessor
from fila.modeling import image_carrier, model_features
from fila.modeling.image_carrier import unpack_images
from fila.modeling.modeling_fila import IMAGE_INPUTS
from fila.processing import image_packing, processor_features
from fila.processing.image_input import ImageInputError, load_images
from tests.cases import each
from tests.helpers import random_image, single_tower, tiny_canvas, tiny_canvas_processor, tiny_model, tiny_processor
from tests.processing import torture

UHD = {"canvas": tiny_canvas("uhd"), "layout": {"type": "llava_uhd", "slice_positions": True}}
NEWLINES = {"canvas": tiny_canvas("llava_next"), "layout": {"type": "llava_next"}, "token_size": 7}
PROCESSORS: list[dict[str, Any]] = [{"canvas": {"type": "fila"}}, NEWLINES, UHD, {"canvas": tiny_canvas("native")}]

ROWS = {"pixel_values": torch.zeros(2, 30), "image_position_ids": torch.zeros(2, 20, dtype=torch.long)}


def test_both_sides_know_one_order_of_all_inputs() -> None:
    order = [(*side.PACKED_FLOATS, *side.PACKED_INTEGERS) for side in (image_carrier, image_packing)]
    assert order[0] == order[1]
    assert sorted(order[0]) == sorted(IMAGE_INPUTS)


@each("settings", PROCESSORS)
def test_the_torture_images_come_out_as_they_went_in(settings: dict[str, Any], tmp_path: Path) -> None:
    found = [torture.load(source, tmp_path) for source in [*torture.geometry(), *torture.modes()]]
    images = [Image.fromarray(image.transpose(1, 2, 0)) for image in found if isinstance(image, np.ndarray)]
    assert len(images) > 60
    processor = tiny_canvas_processor(**settings)
    text = processor.image_token * len(images)
    plain = processor(text=text, images=images)
    processor.packed_images = True
    packed = processor(text=text, images=images, return_tensors="pt")
    assert {*packed} == {"input_ids", "attention_mask", "pixel_values", "image_position_ids"}
    assert packed["input_ids"].tolist() == plain["input_ids"]
    unpacked = unpack_images(packed["pixel_values"], packed["image_position_ids"])
    assert {*unpacked} == {*plain} - {"input_ids", "attention_mask", "image_sizes"}
    for name, values in unpacked.items():
        for one, other in zip(values, plain[name], strict=True):
            assert torch.equal(one, torch.as_tensor(other)), name


@each(
    ("settings", "model"),
    [
        ({"canvas": {"type": "fila"}}, {}),
        (NEWLINES, {"image_newline": True}),
        (UHD, single_tower(slice_positions=9)),
        ({"canvas": tiny_canvas("native")}, single_tower()),
    ],
)
@torch.no_grad()
def test_packed_images_answer_as_plain_ones(settings: dict[str, Any], model: dict[str, Any]) -> None:
    processor, tiny = tiny_canvas_processor(**settings), tiny_model(**model)
    images = [[random_image(25, 70), random_image(60, 20)], None, [random_image(30, 30)]]
    text = ["<image> and <image>", "hm", "x <image>"]
    plain = processor(text=text, images=images, padding=True, return_tensors="pt")
    processor.packed_images = True
    packed = processor(text=text, images=images, padding=True, return_tensors="pt")
    assert torch.equal(tiny(**plain).logits, tiny(**packed).logits)
    beams = [tiny.generate(**inputs, num_beams=2, max_new_tokens=3, do_sample=False) for inputs in (plain, packed)]
    assert torch.equal(*beams)


def test_no_images_are_no_rows_and_none_of_a_prompt_is_no_image(tmp_path: Path) -> None:
    processor = tiny_processor()
    with pytest.raises(ImageInputError):
        processor(text=["a"], images=[None])
    processor.packed_images = True
    for images in ([None, None], [[], []], [[], None]):
        packed = processor(text=["a", "b"], images=images, padding=True, return_tensors="pt")
        assert packed["pixel_values"].shape == packed["image_position_ids"].shape == (0, 1)
        assert tiny_model()(**packed).logits.shape[:2] == packed["input_ids"].shape
        tiny_model().generate(**packed, max_new_tokens=2)
    assert load_images([[torture.RGB], None])[1] == []
    processor.save_pretrained(tmp_path)
    assert not FilaProcessor.from_pretrained(tmp_path).packed_images


def test_rows_of_another_processor_are_refused() -> None:
    floats, integers = ROWS.values()
    with pytest.raises(ValueError, match=r"one row per image; they have the shapes \[1, 20\] and \[2, 30\]"):
        unpack_images(floats, integers[:1])
    for wrong in (integers, integers - 1, integers + 1, integers + 5):
        with pytest.raises(ValueError, match=r"Row 0 of `image_position_ids` does not describe its row"):
            unpack_images(floats, wrong)


def test_pixels_alone_are_refused_with_what_packs_them() -> None:
    inputs = tiny_processor()(text="<image>", images=[random_image(30, 30)], return_tensors="pt")
    kept = {name: inputs[name] for name in ("input_ids", "pixel_values")}
    with pytest.raises(ValueError, match=r"came without \['view_boxes', 'tile_grid'\].*`packed_images = True`"):
        tiny_model()(**kept)


def test_code_beside_a_checkpoint_says_what_packed_images_need(monkeypatch: pytest.MonkeyPatch) -> None:
    for table in (processor_features.FEATURES, model_features.FEATURES):
        monkeypatch.delitem(table, "packed_images")
    processor = tiny_processor()
    processor.packed_images = True
    with pytest.raises(ValueError, match=r"no 'packed_images'.* Install the `fila` package"):
        processor(text="<image>", images=[random_image(30, 30)])
    with pytest.raises(ValueError, match=r"does not read packed images.* Install the `fila` package"):
        tiny_model()(**ROWS, input_ids=torch.tensor([[5]]))
