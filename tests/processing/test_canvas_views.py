# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""What tokens are counted by is what is planned, and chosen as the sources choose, for 100,000 sizes per strategy."""

from typing import Any

import numpy as np
import pytest

from fila.processing.canvas import CANVASES, build_canvas
from fila.processing.canvas_internvl import candidate_grids
from fila.processing.canvas_llava_next import best_fit, canvas_sizes_of
from fila.processing.canvas_plan import Size
from fila.processing.canvas_slices import slice_grid
from fila.processing.layout import LAYOUTS
from fila.processing.processing_fila import FilaProcessor
from tests.cases import each
from tests.helpers import tiny_canvas, tiny_canvas_processor
from tests.processing.canvas_variants import SETTINGS
from tests.reference.naive_canvases import (
    naive_best_fit,
    naive_enclosing,
    naive_nearest_ratio,
    naive_slice_grid,
)

TILE = Size(28, 28)


def sizes(count: int) -> list[tuple[int, int]]:
    """All sizes up to 100 x 100, whole multiples of small ratios, and random sides of every magnitude to 100,000."""
    small = [(height, width) for height in range(1, 101) for width in range(1, 101)]
    ratios = [(rows * side, cols * side) for rows in range(1, 9) for cols in range(1, 9) for side in range(7, 400, 7)]
    draw = np.exp(np.random.default_rng(0).uniform(0, np.log(100_000), (count, 2))).round().astype(int).tolist()
    return ([*small, *ratios] + [(height, width) for height, width in draw])[:count]


MANY = sizes(20_000)


@pytest.mark.parametrize("count", [20_000, pytest.param(100_000, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", CANVASES)
def test_views_are_those_of_the_plan(name: str, count: int) -> None:
    canvas = build_canvas(tiny_canvas(name), TILE)
    for height, width in MANY if count == len(MANY) else sizes(count):
        plan = canvas(height, width)
        assert canvas.views(height, width) == plan.views


@each(("options", "tile"), SETTINGS, ids=lambda value: str(value))
def test_views_of_all_settings_are_the_tiles_of_the_plan(options: dict[str, Any], tile: Size) -> None:
    canvas = build_canvas(options, tile)
    for height, width in MANY[::40]:
        plan = canvas(height, width)
        grid, tile_size, overview = canvas.views(height, width)
        assert (grid, overview) == (plan.tile_grid, plan.overview_size)
        assert [box.size for box in plan.tile_boxes] == [tile_size] * (grid[0] * grid[1])


@each("size", [(0, 5), (5, 0), (-1, 3)])
@each("name", sorted(set(CANVASES) - {"single"}))
def test_views_reject_an_image_without_pixels(name: str, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="`image_size` must be at least 1x1 pixels; got"):
        build_canvas(tiny_canvas(name), TILE).views(*size)


def test_best_fit_is_that_of_the_source() -> None:
    canvases = canvas_sizes_of(((1, 2), (2, 1), (2, 2), (3, 1), (1, 3), (1, 1), (4, 1), (3, 4)), TILE)
    for size in MANY[::4]:
        assert best_fit(*size, canvases)[0] == naive_best_fit(*size, canvases)


def test_enclosing_canvas_is_the_most_compact() -> None:
    canvas = build_canvas({"type": "fila"}, Size(336, 336))
    for size in MANY[::4]:
        assert canvas.views(*size)[0] == naive_enclosing(*size, canvas.canvas_sizes)  # type: ignore[attr-defined]


@pytest.mark.parametrize("tile", [28, 448])
@pytest.mark.parametrize(("least", "most", "ties"), [(1, 12, "original"), (1, 6, "lexicographic"), (4, 4, "original")])
def test_nearest_ratio_is_that_of_the_source(least: int, most: int, ties: str, tile: int) -> None:
    options = {"type": "internvl", "min_tiles": least, "max_tiles": most, "ties": ties}
    canvas, grids = build_canvas(options, Size(tile, tile)), candidate_grids(least, most, ties)
    for size in MANY[:: 3 if most == 12 and tile == 448 else 10]:
        assert canvas.views(*size)[0] == naive_nearest_ratio(*size, grids, tile)


@pytest.mark.parametrize(("resolution", "most"), [(28, 9), (448, 9), (336, 7)])
def test_slice_grid_is_that_of_the_source(resolution: int, most: int) -> None:
    for size in MANY[:: 4 if resolution == 28 else 10]:
        expected = naive_slice_grid(*size, resolution, most)
        assert slice_grid(*size, resolution=resolution, max_slices=most) == expected


def test_count_of_a_layout_that_depends_on_the_size_is_that_of_the_plan() -> None:
    processor: FilaProcessor = tiny_canvas_processor(
        {"type": "llava_next"}, layout={"type": "llava_next"}, token_size=7
    )
    assert LAYOUTS["llava_next"].unpad == "rounded"
    chosen = MANY[::10]
    counted = processor._get_num_multimodal_tokens(chosen).num_image_tokens
    assert counted == [processor._count(processor.image_processor.plan(*size)) for size in chosen]
