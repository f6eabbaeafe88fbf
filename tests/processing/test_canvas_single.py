# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The single canvas: one stretched tile, whatever comes."""

import pytest

from fila.processing.canvas_plan import Box, CanvasPlan, Size
from fila.processing.canvas_single import SingleCanvas


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 100_000), (17, 13), (23, 19)])
def test_single_golden(height: int, width: int) -> None:
    assert SingleCanvas(Size(17, 13))(height, width) == CanvasPlan(
        image_size=Size(height, width),
        canvas_size=Size(17, 13),
        content_box=Box(0, 0, 17, 13),
        tile_grid=(1, 1),
        tile_boxes=(Box(0, 0, 17, 13),),
        overview_size=None,
    )
