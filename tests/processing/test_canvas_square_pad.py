# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Padding to a square: where the image lies, and the pixels of the sources' way."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from fila.processing.canvas_plan import Box, Size
from fila.processing.canvas_square_pad import SquarePadCanvas
from fila.processing.image_processing_fila import FilaImageProcessorPil
from tests.cases import each
from tests.goldens import tensors_of
from tests.helpers import random_image

TILE = Size(336, 336)
GRAY = (122, 116, 104)


@each(
    ("height", "width", "fit", "box"),
    [
        (336, 336, "center", Box(0, 0, 336, 336)),
        # One pixel of slack lies at the bottom: the image starts at 0.
        (335, 336, "center", Box(0, 0, 335, 336)),
        (100, 200, "center", Box(84, 0, 252, 336)),
        # 33 rows above: 33 * 336 / 100 = 110.88, 67 * 3.36 = 225.12.
        (34, 100, "center", Box(111, 0, 225, 336)),
        # Less than a pixel high and wide: one pixel is kept.
        (1, 10_000, "center", Box(168, 0, 169, 336)),
        (10_000, 1, "center", Box(0, 168, 336, 169)),
        (1, 1, "center", Box(0, 0, 336, 336)),
        (480, 640, "corner", Box(0, 0, 252, 336)),
        (10_000, 1, "corner", Box(0, 0, 336, 1)),
    ],
)
def test_square_pad_golden(height: int, width: int, fit: str, box: Box) -> None:
    plan = SquarePadCanvas(TILE, fit=fit)(height, width)
    assert plan.content_box == box
    assert (plan.canvas_size, plan.tile_grid, plan.overview_size, plan.fill) == (TILE, (1, 1), None, GRAY)


def test_grid_cuts_the_square_and_the_overview_shows_it_whole() -> None:
    plan = SquarePadCanvas(TILE, grid=2, overview=True)(100, 200)
    assert plan.view_boxes == (
        Box(0, 0, 672, 672),
        Box(0, 0, 336, 336),
        Box(0, 336, 336, 672),
        Box(336, 0, 672, 336),
        Box(336, 336, 672, 672),
    )
    assert plan.content_in_overview == Box(84, 0, 252, 336)


def test_resize_with_pad_golden() -> None:
    # The article's function may give no pixel at all; one is kept here.
    for _, values in tensors_of("autoglm_seed_values.safetensors"):
        rows = zip(values["in/resize_hwTHTW"], values["out/resize_nh_nw_padbottom_padright"], strict=True)
        scales = values["out/resize_scale"].tolist()
        for (sizes, recorded), scale in zip(rows, scales, strict=True):
            height, width, *target = sizes.tolist()
            new_height, new_width, bottom, right = recorded.tolist()
            tile = Size(*target)
            plan = SquarePadCanvas(tile, fit="corner", fill=[0, 0, 0])(height, width)
            assert plan.content_box == Box(0, 0, max(1, new_height), max(1, new_width))
            assert [max(0, tile.height - bottom), tile.width - right] == [new_height, new_width]
            if min(new_height, new_width) > 20:
                assert plan.content_box.bottom / height == pytest.approx(scale, rel=0.05)


def processor(**options: Any) -> FilaImageProcessorPil:
    return FilaImageProcessorPil(
        size=28, canvas={"type": "square_pad", **options}, high_res_size=None, do_rescale=False, do_normalize=False
    )


def test_exact_pixels_are_padded_first() -> None:
    image = random_image(31, 50)
    padded = Image.new("RGB", (50, 50), GRAY)
    padded.paste(image, (0, 9))
    expected = np.asarray(padded.resize((56, 56), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    whole = np.asarray(padded.resize((28, 28), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    views = processor(grid=2, overview=True, exact=True)(image)["pixel_values"][0]
    np.testing.assert_array_equal(views[0], whole)
    np.testing.assert_array_equal(views[1], expected[:, :28, :28])
    np.testing.assert_array_equal(views[4], expected[:, 28:, 28:])


def test_usual_pixels_differ_from_the_exact_ones_at_the_border_of_the_padding_only() -> None:
    image = random_image(14, 28, seed=3)
    exact, usual = processor(exact=True)(image)["pixel_values"][0], processor()(image)["pixel_values"][0]
    np.testing.assert_array_equal(exact, usual)  # nothing to resize, so nothing bleeds
    np.testing.assert_array_equal(usual[0, :, 0, 0], GRAY)
    np.testing.assert_array_equal(usual[0, :, 7:21], np.asarray(image).transpose(2, 0, 1))


@each(
    ("options", "message"),
    [
        ({"grid": 0}, r"`canvas.grid` must be a positive integer; got 0\."),
        ({"overview": 1}, r"`canvas.overview` must be true or false; got 1\."),
        ({"fit": "stretch"}, r"`canvas.fit` must be one of \['center', 'corner'\]; got 'stretch'\."),
        ({"fill": [0, 0]}, r"`canvas.fill` must be three gray levels of 0..255; got \[0, 0\]\."),
        ({"fill": [0, 0, 256]}, r"`canvas.fill` must be three gray levels of 0..255; got \[0, 0, 256\]\."),
        ({"exact": 1}, r"`canvas.exact` must be true or false; got 1\."),
        ({"exact": True, "fit": "corner"}, r"`canvas.exact` pads around the image and goes with `fit` 'center'"),
    ],
    ids=str,
)
def test_square_pad_rejects_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SquarePadCanvas(TILE, **options)
