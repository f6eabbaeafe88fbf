# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Whole files pass; what is refused is in the torture set."""

import pytest

from fila.processing.image_whole import READ_AHEAD, checked
from tests.helpers import random_image
from tests.processing.torture import encoded


@pytest.mark.parametrize("form", ["PNG", "GIF", "TIFF", "WEBP", "BMP"])
def test_whole_files_pass_as_they_are(form: str) -> None:
    data = encoded(random_image(200, 300), form)
    assert checked(data) is data


@pytest.mark.parametrize("options", [{"progressive": True}, {"progressive": True, "restart_marker_rows": 1}])
def test_a_jpeg_of_several_passes_passes_as_it_is(options: dict[str, object]) -> None:
    data = encoded(random_image(61, 83), "JPEG", **options)
    assert checked(data) is data


@pytest.mark.parametrize("options", [{}, {"restart_marker_blocks": 3}, {"subsampling": 2, "restart_marker_rows": 1}])
def test_a_jpeg_of_one_pass_loses_its_end_mark(options: dict[str, object]) -> None:
    data = encoded(random_image(61, 83), "JPEG", **options)
    assert checked(data + b"more") == data[:-2] + READ_AHEAD
    assert checked(data, 1) is data
