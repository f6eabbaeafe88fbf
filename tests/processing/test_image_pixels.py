# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Numbers to pixels; every mode and dtype, accepted and refused, is in the torture set."""

import numpy as np
import pytest
from PIL import Image

from fila.processing import image_pixels
from fila.processing.image_error import UnusableImage
from fila.processing.image_pixels import array_pixels, check_array, picture_pixels
from tests.cases import each
from tests.helpers import random_image

RAMP = np.arange(256, dtype=np.uint8)


def test_alpha_is_rounded_exactly() -> None:
    color, alpha = np.meshgrid(RAMP, RAMP)
    image = Image.fromarray(np.dstack([color, color, color, alpha]))
    color, alpha = color.astype(int), alpha.astype(int)
    expected = (2 * (color * alpha + 255 * (255 - alpha)) + 255) // 510
    np.testing.assert_array_equal(picture_pixels(image, to_rgb=True)[0], expected)


@each("mode", ["RGBA", "L", "P", "CMYK", "LAB", "1", "LA", "RGBa", "PA", "HSV", "YCbCr"])
def test_strips_give_the_pixels_of_the_whole(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = random_image(23, 7).convert("RGB" if mode == "LAB" else {"PA": "P", "RGBa": "RGBA"}.get(mode, mode))
    image = Image.frombytes("LAB", image.size, image.tobytes()) if mode == "LAB" else image.convert(mode)
    whole = picture_pixels(image, to_rgb=True)
    monkeypatch.setattr(image_pixels, "STRIP", 15)
    np.testing.assert_array_equal(picture_pixels(image, to_rgb=True), whole)


def test_strips_of_floats_give_the_pixels_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).random((3, 23, 7))
    whole = array_pixels(image, to_rgb=True, to_uint8=True, data_format=None)
    monkeypatch.setattr(image_pixels, "STRIP", 15)
    np.testing.assert_array_equal(array_pixels(image, to_rgb=True, to_uint8=True, data_format=None), whole)
    np.testing.assert_array_equal(whole, np.rint(image * 255))


def test_sixteen_bits_that_repeat_eight_give_the_eight() -> None:
    image = np.stack([RAMP.astype(np.uint16) * 257] * 5)
    pixels = array_pixels(image, to_rgb=False, to_uint8=True, data_format=None)
    np.testing.assert_array_equal(pixels[0, 0], RAMP)


def test_floats_of_four_channels_within_255_are_drawn_on_white() -> None:
    image = np.array([200.0, 100.0, 0.0, 51.0]).reshape(4, 1, 1) * np.ones((4, 5, 7))
    drawn = array_pixels(image, to_rgb=True, to_uint8=False, data_format=None)
    np.testing.assert_allclose(drawn[:, 0, 0], [244.0, 224.0, 204.0])


@pytest.mark.parametrize("largest", [1.0, 2.0, 15.0, 16.5, 255.0])
def test_floats_of_a_clear_range_are_accepted(largest: float) -> None:
    check_array(np.full((5, 7, 3), largest))


@pytest.mark.parametrize("largest", [1.0001, 1.5, 15.9])
def test_floats_of_an_unclear_range_are_refused(largest: float) -> None:
    with pytest.raises(UnusableImage, match=r"which may be fractions or dark pixels"):
        check_array(np.full((5, 7, 3), largest))
