# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Decoding; what is refused before it, and orientation by every way in, are in the torture set."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFile

from fila.processing.image_decode import check_size, decode, open_header, upright
from fila.processing.image_error import UnusableImage
from tests.helpers import random_image
from tests.processing.torture import encoded, frames

PICTURE = random_image(5, 9)


def test_decode_gives_the_pixels() -> None:
    np.testing.assert_array_equal(np.asarray(decode(encoded(PICTURE))), np.asarray(PICTURE))


def test_decode_gives_the_chosen_frame() -> None:
    assert np.asarray(decode(frames("PNG"), 0)).max() == 0
    assert np.asarray(decode(frames("PNG"), 1)).max() > 0


def test_decode_keeps_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert getattr(decode(encoded(PICTURE)), "fp", None) is None


def test_open_header_decodes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("pixels were decoded"))
    assert open_header(io.BytesIO(encoded(PICTURE))).size == (9, 5)


def test_upright_is_the_image_itself_where_nothing_is_to_do() -> None:
    assert upright(PICTURE) is PICTURE


def test_upright_turns_once() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = upright(Image.open(io.BytesIO(encoded(PICTURE, exif=exif))))
    assert turned.size == (5, 9)
    assert upright(turned) is turned


def test_upright_leaves_the_callers_image_as_it_was() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    given = Image.open(io.BytesIO(encoded(PICTURE, exif=exif)))
    upright(given)
    assert given.size == (9, 5)
    assert given.getexif()[0x0112] == 6


@pytest.mark.parametrize(("form", "most"), [(None, 60), ("PNG", 60), ("WEBP", 30), ("JPEG2000", 30), ("HEIF", 30)])
def test_check_size_allows_fewer_pixels_where_decoders_copy(
    form: str | None, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)
    check_size(most // 5, 5, form)
    with pytest.raises(UnusableImage, match=r"has more than the 60 pixels PIL allows"):
        check_size(most // 5 + 1, 5, form)


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (-3, 5)])
def test_check_size_rejects_no_pixels(width: int, height: int) -> None:
    with pytest.raises(UnusableImage, match=f"is {height}x{width} pixels"):
        check_size(width, height)
