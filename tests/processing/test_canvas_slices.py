# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The slices of MiniCPM-V 2.6 and LLaVA-UHD v1: recorded geometry, and what the cap changes."""

import re
from typing import Any

import pytest

from fila.processing.canvas_minicpm import MinicpmCanvas
from fila.processing.canvas_plan import CanvasPlan, Size
from fila.processing.canvas_slices import slice_grid
from fila.processing.canvas_uhd import UhdCanvas
from tests.cases import each
from tests.goldens import rows_of

GOLDEN = [("minicpmv26_slicing.json", MinicpmCanvas, 448), ("uhd_v1_slicing.json", UhdCanvas, 336)]
over_systems = pytest.mark.parametrize(("name", "strategy", "resolution"), GOLDEN, ids=["minicpm", "uhd"])


def setting(table: dict[str, Any], field: str, word: str, default: int) -> int:
    """A setting of the table: its field, or else what its note says."""
    found = re.search(rf"{word} (\d+)", str(table.get("note", "")))
    return int(table.get(field, found[1] if found else default))


def wide_high(size: Size) -> list[int]:
    return [size.width, size.height]


def as_recorded(plan: CanvasPlan) -> dict[str, Any]:
    (rows, cols), overview = plan.tile_grid, plan.overview_size
    if overview is None:
        return {"grid": None, "overview": wide_high(plan.canvas_size), "refine": None, "slice": None}
    tile = plan.tile_boxes[0].size
    return {
        "grid": [cols, rows],
        "overview": wide_high(overview),
        "refine": wide_high(plan.canvas_size),
        "slice": wide_high(tile),
    }


@over_systems
def test_slicing_golden(name: str, strategy: Any, resolution: int) -> None:
    for number, table in enumerate(rows_of(name)):
        side = setting(table, "scale_resolution", "scale", resolution)
        patch = setting(table, "patch_size", "patch", 14)
        found, capped = [], 0
        for row in table["rows"]:
            options = {"max_slices": row["max"], "patch_size": patch}
            exact = strategy(Size(side, side), max_view_area=None, **options)(row["h"], row["w"])
            found.append(as_recorded(exact))
            if number:  # what follows counts on the usual sizes and strips of tests/golden
                continue
            usual = strategy(Size(side, side), **options)(row["h"], row["w"])
            cap = 2 * (side // patch) ** 2
            patches = [height // patch * (width // patch) for height, width in exact.view_sizes]
            capped += usual != exact
            assert (usual == exact) == (max(patches) <= cap)
            assert max(height // patch * (width // patch) for height, width in usual.view_sizes) <= cap
        assert found == [{field: row[field] for field in found[0]} for row in table["rows"]]
        assert number or len(found) >= 100
        assert number or capped < len(found) / 20


def test_minicpm_patch_grids_golden() -> None:
    for table in rows_of("minicpmv26_slicing.json"):
        side, patch = table["scale_resolution"], table["patch_size"]
        for row in table["rows"]:
            plan = MinicpmCanvas(Size(side, side), max_slices=row["max"], patch_size=patch, max_view_area=None)(
                row["h"], row["w"]
            )
            overview, tile, count = row["tgt_sizes"]
            grids = [[height // patch, width // patch] for height, width in plan.view_sizes]
            assert grids == [overview, *([tile] * (count - 1))]


def test_minicpm_4_6_slicing_golden() -> None:
    for table in rows_of("minicpmv46_slicing.json"):
        for values in table["rows"]:
            row = dict(zip(table["columns"], values, strict=True))
            side, multiple = row["scale_resolution"], {"16x": 4, "4x": 2}[row["mode"]]
            canvas = MinicpmCanvas(
                Size(side, side),
                max_slices=row["max_slice_nums"],
                patch_size=row["patch"],
                multiple=multiple,
                max_view_area=None,
            )
            found = as_recorded(plan := canvas(row["h"], row["w"]))
            sizes = plan.view_sizes
            tokens = [height * width // (row["patch"] * multiple) ** 2 for height, width in sizes]
            assert canvas.patch_block == multiple
            assert found == {
                "grid": [row["cols"], row["rows"]] if row["rows"] else None,
                "overview": [row["source_w"], row["source_h"]],
                "refine": [row["refine_w"], row["refine_h"]] if row["rows"] else None,
                "slice": [row["slice_w"], row["slice_h"]] if row["rows"] else None,
            }, row
            assert tokens == [row["tokens_source"], *[row["tokens_slice"]] * (len(sizes) - 1)], row


@each("size", [(1, 10_000), (10_000, 1), (1, 250_000), (250_000, 1), (3, 99_991)], ids=str)
@each("strategy", [MinicpmCanvas, UhdCanvas])
def test_strips_cost_a_bounded_number_of_patches(strategy: Any, size: tuple[int, int]) -> None:
    plan = strategy(Size(336, 336))(*size)
    assert sum(height * width // 196 for height, width in plan.view_sizes) <= plan.num_views * 2 * 24 * 24


def test_tie_of_a_square_goes_to_one_column() -> None:
    assert slice_grid(600, 600, resolution=448, max_slices=9) == (2, 1)


@pytest.mark.parametrize("max_slices", [1, 2])
def test_most_slices_are_respected(max_slices: int) -> None:
    plan = MinicpmCanvas(Size(448, 448), max_slices=max_slices)(1300, 1300)
    assert plan.num_tiles == max_slices
    assert (plan.overview_size is None) == (max_slices == 1)


@each(
    ("tile", "options", "message"),
    [
        (Size(448, 448), {"max_slices": 0}, r"`canvas.max_slices` must be a positive integer; got 0\."),
        (Size(448, 448), {"patch_size": 1.5}, r"`canvas.patch_size` must be a positive integer; got 1.5\."),
        (Size(448, 448), {"max_view_area": 0}, r"`canvas.max_view_area` must be a positive integer or null; got 0\."),
        (Size(448, 336), {}, r"Slices need a square `size`; got 448x336\."),
    ],
    ids=str,
)
@each("strategy", [MinicpmCanvas, UhdCanvas])
def test_slicing_rejects_options(strategy: Any, tile: Size, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        strategy(tile, **options)
