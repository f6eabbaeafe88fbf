# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Tiles by the long edge: recorded tile sizes, the grid, the limit."""

from typing import Any

import pytest

from fila.processing.canvas_long_edge_tiers import LongEdgeTiersCanvas
from fila.processing.canvas_plan import Box, Size
from tests.cases import each
from tests.goldens import tensors_of

TILE = Size(336, 336)


def test_tile_sides_golden() -> None:
    canvas = LongEdgeTiersCanvas(TILE, max_tiles=None)
    for _, values in tensors_of("autoglm_seed_values.safetensors"):
        sizes = values["in/sizes_hw"].tolist()
        assert [canvas.tile_side(*size) for size in sizes] == values["out/adaptive_patch"].tolist()
        for height, width in sizes:
            side = canvas.tile_side(height, width)
            assert canvas(height, width).tile_grid == (-(-height // side), -(-width // side))


@each(
    ("size", "grid", "content"),
    [
        ((512, 512), (1, 1), Box(0, 0, 336, 336)),
        ((513, 1), (2, 1), Box(0, 0, 448, 1)),  # 513 * 336 / 384 = 448.9
        ((1, 513), (1, 2), Box(0, 0, 1, 448)),
        ((1024, 600), (3, 2), Box(0, 0, 896, 525)),
        ((1025, 600), (3, 2), Box(0, 0, 672, 393)),  # tiles of 512 from here on: fewer pixels per pixel
        ((300, 200), (1, 1), Box(0, 0, 336, 224)),
        ((1, 1), (1, 1), Box(0, 0, 336, 336)),
    ],
    ids=str,
)
def test_long_edge_tiers_golden(size: tuple[int, int], grid: tuple[int, int], content: Box) -> None:
    plan = LongEdgeTiersCanvas(TILE)(*size)
    assert (plan.tile_grid, plan.content_box) == (grid, content)
    assert plan.canvas_size == (336 * grid[0], 336 * grid[1])
    assert plan.overview_size is None


@pytest.mark.parametrize("size", [(10_000, 10_000), (1, 100_000), (3073, 3072), (7, 99_991)], ids=str)
def test_tiles_grow_until_their_number_is_allowed(size: tuple[int, int]) -> None:
    canvas = LongEdgeTiersCanvas(TILE, max_tiles=36)
    side = canvas.tile_side(*size)
    assert -(-size[0] // side) * -(-size[1] // side) <= 36
    assert side == 512 or -(-size[0] // (side - 1)) * -(-size[1] // (side - 1)) > 36
    free = LongEdgeTiersCanvas(TILE, max_tiles=None)
    assert free.tile_side(*size) == 512


def test_tiers_and_overview_are_options() -> None:
    canvas = LongEdgeTiersCanvas(TILE, tiers=[[100, 50]], overview=True)
    assert canvas(101, 60).tile_grid == (3, 2)
    assert canvas(101, 60).overview_size == TILE
    assert canvas(100, 60).overview_size is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tiles": 0}, r"`canvas.max_tiles` must be a positive integer or null; got 0\."),
        ({"overview": None}, r"`canvas.overview` must be true or false; got None\."),
        ({"tiers": [[1]]}, r"`canvas.tiers` must be a list of \[long edge, tile\] in pixels; got \[\[1\]\]\."),
        ({"tiers": 3}, r"`canvas.tiers` must be a list of .*; got 3\."),
        ({"tiers": [[1024, 0]]}, r"`canvas.tiers` must be a list of .*; got \[\[1024, 0\]\]\."),
    ],
    ids=str,
)
def test_long_edge_tiers_rejects_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LongEdgeTiersCanvas(TILE, **options)
