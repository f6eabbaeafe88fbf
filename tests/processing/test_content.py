# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""What `return_content` adds: masks of the pixels themselves, and scales that agree with the maps of boxes."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fila.processing.canvas import CANVASES
from fila.processing.canvas_plan import Box
from fila.processing.image_processing_fila import FilaImageProcessorPil
from fila.processing.token_boxes import canvas_to_image
from tests.cases import each
from tests.helpers import random_image, tiny_canvas, tiny_canvas_processor

SIZES = [(53, 97), (28, 28), (3, 190)]
ADDED = {"content_mask", "content_boxes", "image_scales"}


def image_processor(canvas: str, **options: Any) -> FilaImageProcessorPil:
    found: FilaImageProcessorPil = tiny_canvas_processor({**tiny_canvas(canvas), **options}).image_processor
    found.high_res_size = None
    return found


def white(size: tuple[int, int]) -> Image.Image:
    return Image.new("RGB", size[::-1], "white")


@each("canvas", CANVASES)
def test_content_mask_is_where_a_white_image_is_white(canvas: str) -> None:
    options = {"fit": "corner"} if canvas in ("native", "square_pad") else {}
    made = image_processor(canvas, **options)
    batch: Any = made([white(size) for size in SIZES], return_content=True, do_normalize=False, return_tensors="pt")
    assert batch["content_mask"].dtype == torch.bool
    mask, is_white = batch["content_mask"], (batch["pixel_values"] == 1).all(dim=2)
    if canvas == "redrawn_square":  # filtered together with its padding, so the edge of the image is a mixture
        assert is_white.any(dim=(2, 3)).all()
        assert mask[is_white].all()
    else:
        assert torch.equal(mask, is_white)


@each("canvas", CANVASES)
def test_image_scales_map_the_canvas_to_the_image(canvas: str) -> None:
    made = image_processor(canvas)
    batch: Any = made([white(size) for size in SIZES], return_content=True)
    for size, content, scales in zip(SIZES, batch["content_boxes"], batch["image_scales"], strict=True):
        plan = made.plan(*size)
        assert tuple(content) == tuple(plan.content_box)
        for tile in plan.tile_boxes:
            corners = np.array([[tile.top, tile.left], [tile.bottom, tile.right]])
            mapped = np.clip((corners - content[:2]) * scales, 0, size)
            # Rounded outward; a whole number that is a rounding error off must not become the next one.
            first, last = np.floor(mapped[0] + 1e-9).astype(int), np.ceil(mapped[1] - 1e-9).astype(int)
            found = canvas_to_image(plan, tile)
            assert found == (Box(*first, *last) if (first < last).all() else None)


def test_content_is_not_returned_unless_asked_for() -> None:
    made = image_processor("fila")
    assert not ADDED & set(made([white((53, 97))]))
    made.return_content = True
    assert set(made([white((53, 97))])) >= ADDED
    assert not ADDED & set(made.model_input_names)


def test_content_goes_through_the_processor() -> None:
    made = tiny_canvas_processor(tiny_canvas("minicpm"))
    images = [[white(size)] for size in SIZES]
    batch: Any = made(text=["<image>"] * 3, images=images, padding=True, return_content=True, return_tensors="pt")
    assert batch["content_mask"].shape == batch["pixel_values"][:, :, 0].shape
    assert [batch[name].dtype for name in ("content_boxes", "image_scales")] == [torch.int64, torch.float64]


@pytest.mark.parametrize("kind", [None, "np", "pt"])
def test_scales_of_a_shrunk_image_map_to_the_image_as_it_came(kind: str | None) -> None:
    made = tiny_canvas_processor(tiny_canvas("fila"), max_image_tokens=48, image_token_policy="shrink_images")
    images = [[random_image(28, 28)], [random_image(97, 180), random_image(53, 30)]]
    batch: Any = made(
        text=["<image>", "<image><image>"],
        images=images,
        padding=kind is not None,
        return_content=True,
        return_tensors=kind,
    )
    for size, content, scales in zip(
        [(28, 28), (97, 180), (53, 30)], batch["content_boxes"], batch["image_scales"], strict=True
    ):
        top, left, bottom, right = (int(edge) for edge in content)
        np.testing.assert_allclose(np.asarray(scales) * [bottom - top, right - left], size, rtol=1e-12)
