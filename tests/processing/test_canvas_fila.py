# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""FILA's canvas choice: LLaVA-NeXT's recorded geometry, and each decision boundary worked out by hand."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fila.processing.canvas_fila import FILA_TILE_GRIDS, FilaCanvas
from fila.processing.canvas_plan import Box, Size
from tests.cases import each

TILE = Size(336, 336)
GOLDEN = Path(__file__).parents[1] / "golden"
ANYRES: dict[str, Any] = json.loads((GOLDEN / "llava_next_anyres.json").read_text())
RESOLUTION_SETS: dict[str, Any] = json.loads((GOLDEN / "llava_next_best_resolution_sets.json").read_text())
LLAVA_NEXT = FilaCanvas(TILE, rule="llava_next")
ENCLOSE = FilaCanvas(TILE)


def test_llava_next_golden_is_recorded_for_our_canvases() -> None:
    assert ANYRES["tile"] == TILE.height
    assert ANYRES["pinpoints_hw"] == [[rows * 336, cols * 336] for rows, cols in FILA_TILE_GRIDS]
    assert ANYRES["original_select_differs"] == 0
    assert len(ANYRES["rows"]) == 377


def test_llava_next_golden() -> None:
    for row in ANYRES["rows"]:
        size = row["h"], row["w"]
        plan = LLAVA_NEXT(*size)
        top, left, bottom, right = plan.content_box
        canvas_height, canvas_width = plan.canvas_size
        assert list(plan.canvas_size) == row["best_hw"], size
        assert list(plan.tile_grid) == row["grid_hw"], size
        assert list(plan.content_box.size) == row["resized_hw"], size
        assert [left, top, canvas_width - right, canvas_height - bottom] == row["pad_left_top_right_bottom"], size
        assert plan.num_views == row["n_crops"], size


@pytest.mark.parametrize(
    ("name", "tile"), [("llava16_34b_like", 336), ("llava_hr_stage2", 1024), ("anyres_max_9_384", 384)]
)
def test_llava_next_golden_with_other_canvas_lists(name: str, tile: int) -> None:
    recorded = RESOLUTION_SETS[name]
    grids = [[height // tile, width // tile] for height, width in recorded["pinpoints_hw"]]
    canvas = FilaCanvas(Size(tile, tile), rule="llava_next", tile_grids=grids)
    chosen = [[width, height, *canvas(height, width).canvas_size] for width, height, *_ in recorded["rows"]]
    assert len(chosen) == 377
    assert chosen == recorded["rows"]


# height, width -> tile grid, content box. Every row is derived by hand; the comment says which decision it pins.
ENCLOSE_GOLDEN = [
    # 1 pixel: every canvas encloses it; 1x2 and 2x1 draw it equally large (336 times), the list puts 1x2 first.
    (1, 1, (1, 2), Box(0, 168, 336, 504)),
    # 1-pixel strips: 1x2 draws 1x672 672/672 = 1 time, 2x1 does not enclose it.
    (1, 672, (1, 2), Box(167, 0, 168, 672)),
    (672, 1, (2, 1), Box(0, 167, 672, 168)),
    # One pixel more and only the three-tile canvas encloses it: 1x673 on 336x1008 is 1.498 times, 2 pixels high.
    (1, 673, (1, 3), Box(167, 0, 169, 1008)),
    (673, 1, (3, 1), Box(0, 167, 1008, 169)),
    # Both two-tile canvases enclose these; the one that fits the orientation draws them larger.
    (100, 200, (1, 2), Box(0, 0, 336, 672)),
    (200, 100, (2, 1), Box(0, 0, 672, 336)),
    # An exact tile, and one pixel more or less on either side.
    (336, 336, (1, 2), Box(0, 168, 336, 504)),
    (335, 336, (1, 2), Box(0, 167, 336, 505)),
    (336, 335, (2, 1), Box(167, 0, 505, 336)),
    (336, 337, (1, 2), Box(0, 167, 336, 504)),
    (337, 336, (2, 1), Box(167, 0, 504, 336)),
    # 337x337 is too large for both two-tile canvases; 2x2 is the only one left.
    (337, 337, (2, 2), Box(0, 0, 672, 672)),
    # Exact canvases, then one pixel more.
    (336, 672, (1, 2), Box(0, 0, 336, 672)),
    (337, 672, (2, 2), Box(167, 0, 504, 672)),
    (336, 673, (1, 3), Box(0, 167, 336, 840)),
    (672, 336, (2, 1), Box(0, 0, 672, 336)),
    (672, 337, (2, 2), Box(0, 167, 672, 504)),
    (673, 336, (3, 1), Box(167, 0, 840, 336)),
    (672, 672, (2, 2), Box(0, 0, 672, 672)),
    (336, 1008, (1, 3), Box(0, 0, 336, 1008)),
    (1008, 336, (3, 1), Box(0, 0, 1008, 336)),
    # None encloses: most pixels kept. 673x672 keeps 672x671 = 450912 on 2x2.
    (673, 672, (2, 2), Box(0, 0, 672, 672)),
    # 337x1008 on 336x1008 keeps 336x1005, on 672x672 only 224x672.
    (337, 1008, (1, 3), Box(0, 1, 336, 1007)),
    (600, 800, (2, 2), Box(84, 0, 588, 672)),
    # 500x1000: 336x672 and 672x672 both keep 336x672 pixels, 336x1008 keeps no more; 336x672 wastes fewest.
    (500, 1000, (1, 2), Box(0, 0, 336, 672)),
    (336, 1009, (1, 3), Box(0, 0, 336, 1008)),
    # 1x100000 keeps nothing anywhere (the short side truncates to 0), so least waste: the first two-tile canvas.
    (1, 100_000, (1, 2), Box(167, 0, 168, 672)),
    (100_000, 1, (1, 2), Box(0, 335, 336, 336)),
]


@each(
    ("height", "width", "tile_grid", "content_box"),
    ENCLOSE_GOLDEN,
    ids=[f"{height}x{width}->{rows}x{cols}" for height, width, (rows, cols), _ in ENCLOSE_GOLDEN],
)
def test_fila_golden(height: int, width: int, tile_grid: tuple[int, int], content_box: Box) -> None:
    plan = ENCLOSE(height, width)
    assert plan.tile_grid == tile_grid
    assert plan.content_box == content_box
    assert plan.canvas_size == (336 * tile_grid[0], 336 * tile_grid[1])
    assert plan.overview_size == TILE


def test_fila_ties_follow_the_list() -> None:
    assert FilaCanvas(TILE, tile_grids=[[2, 1], [1, 2]])(100, 100).tile_grid == (2, 1)
    assert FilaCanvas(TILE, tile_grids=[[1, 2], [2, 1]])(100, 100).tile_grid == (1, 2)


def test_fila_tie_of_areas_goes_to_the_larger_drawing_against_the_list() -> None:
    # Six tiles each; 300x400 is drawn 1.68 times on 2x3 and 1.12 times on 1x6.
    assert FilaCanvas(TILE, tile_grids=[[1, 6], [2, 3]])(300, 400).tile_grid == (2, 3)


@given(height=st.integers(1, 1100), width=st.integers(1, 1100))
def test_fila_rules_agree_on_the_area(height: int, width: int) -> None:
    assert ENCLOSE(height, width).num_tiles == LLAVA_NEXT(height, width).num_tiles


def test_fila_tie_llava_next_ignores_the_drawing() -> None:
    # Both two-tile canvases enclose 200x100, keep all its pixels and waste equally: the order of the list decides for
    # LLaVA-NeXT, the larger drawing for FILA.
    assert LLAVA_NEXT(200, 100).tile_grid == (1, 2)
    assert ENCLOSE(200, 100).tile_grid == (2, 1)


def test_fila_without_overview() -> None:
    plan = FilaCanvas(TILE, overview=False)(600, 800)
    assert plan.overview_size is None
    assert plan.num_views == 4


@given(height=st.integers(1, 1100), width=st.integers(1, 1100))
def test_fila_choice_matches_a_slow_twin(height: int, width: int) -> None:
    sizes = [(rows * 336, cols * 336) for rows, cols in FILA_TILE_GRIDS]
    enclosing = [size for size in sizes if size[0] >= height and size[1] >= width]
    best: tuple[int, int] | None = None
    best_key: tuple[int, Fraction] | None = None
    for size in enclosing:
        key = size[0] * size[1], -min(Fraction(size[0], height), Fraction(size[1], width))
        if best_key is None or key < best_key:
            best, best_key = size, key
    expected = best or tuple(LLAVA_NEXT(height, width).canvas_size)
    assert tuple(ENCLOSE(height, width).canvas_size) == expected


@pytest.mark.parametrize("canvas", [ENCLOSE, LLAVA_NEXT], ids=["enclose", "llava_next"])
def test_fila_rounds_the_other_side_up(canvas: FilaCanvas) -> None:
    # 37x101 on 336x672: 672/101 = 6.65 times, 37 * 6.65 = 246.2.
    assert canvas(37, 101).content_box == Box(44, 0, 291, 672)
    # 100x300: 672/300 * 100 is 224 and one ulp in doubles; LLaVA-NeXT makes it 225, and so do we.
    assert canvas(100, 300).content_box.size == (225, 672)


@each(
    ("options", "message"),
    [
        ({"rule": "closest"}, r"`canvas.rule` must be one of \['enclose', 'llava_next'\]; got 'closest'\."),
        ({"overview": 1}, r"`canvas.overview` must be true or false; got 1\."),
        (
            {"tile_grids": []},
            r"`canvas.tile_grids` must be a list of \[rows, cols\] with positive integers; got \[\]\.",
        ),
        ({"tile_grids": [[1, 2, 3]]}, r"`canvas.tile_grids` must be .*; got \[\[1, 2, 3\]\]\."),
        ({"tile_grids": [[1, 0]]}, r"`canvas.tile_grids` must be .*; got \[\[1, 0\]\]\."),
        ({"tile_grids": [[1, 1.5]]}, r"`canvas.tile_grids` must be .*; got \[\[1, 1.5\]\]\."),
        ({"tile_grids": [[True, 1]]}, r"`canvas.tile_grids` must be .*; got \[\[True, 1\]\]\."),
        ({"tile_grids": [3]}, r"`canvas.tile_grids` must be .*; got \[3\]\."),
    ],
    ids=lambda value: None if isinstance(value, str) else str(value),
)
def test_fila_rejects_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FilaCanvas(TILE, **options)
