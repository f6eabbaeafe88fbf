# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Every canvas strategy of the table keeps the promises of a CanvasPlan."""

import inspect
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fila.processing.canvas import CANVASES, build_canvas
from fila.processing.canvas_plan import Box
from tests.cases import each
from tests.processing.canvas_variants import SETTINGS, SQUARE, TILE, VARIANTS, over_variants

SIDES = st.one_of(st.integers(1, 60), st.integers(1, 100_000))


def pads_the_corner(options: dict[str, Any]) -> bool:
    return options["type"] == "long_edge_tiers" or options.get("fit") == "corner"


def test_every_canvas_has_a_variant_here() -> None:
    assert {options["type"] for options, _ in SETTINGS} == set(CANVASES)


@over_variants
@given(height=SIDES, width=SIDES)
def test_canvas_tiles_cover_the_canvas_once(options: dict[str, Any], height: int, width: int) -> None:
    plan = build_canvas(options, VARIANTS[str(options)])(height, width)
    rows, cols = plan.tile_grid
    tops = [plan.tile_boxes[row * cols].top for row in range(rows)] + [plan.canvas_size.height]
    lefts = [plan.tile_boxes[col].left for col in range(cols)] + [plan.canvas_size.width]
    assert (tops[0], lefts[0]) == (0, 0)
    assert tops == sorted(set(tops))
    assert lefts == sorted(set(lefts))
    # Tile (row, col) reaches to the next one in both directions: no gap, no overlap, row-major.
    assert plan.tile_boxes == tuple(
        Box(tops[row], lefts[col], tops[row + 1], lefts[col + 1]) for row in range(rows) for col in range(cols)
    )


@over_variants
@given(height=SIDES, width=SIDES)
def test_canvas_tiles_are_row_major(options: dict[str, Any], height: int, width: int) -> None:
    plan = build_canvas(options, VARIANTS[str(options)])(height, width)
    rows, cols = plan.tile_grid
    corners = [(box.top, box.left) for box in plan.tile_boxes]
    assert corners == sorted(corners)
    assert len({top for top, _ in corners}) == rows
    assert len({left for _, left in corners}) == cols


@over_variants
@given(height=SIDES, width=SIDES)
def test_canvas_content_lies_inside_and_fills_an_axis_or_starts_in_the_corner(
    options: dict[str, Any], height: int, width: int
) -> None:
    plan = build_canvas(options, VARIANTS[str(options)])(height, width)
    top, left, bottom, right = plan.content_box
    canvas_height, canvas_width = plan.canvas_size
    assert 0 <= top < bottom <= canvas_height
    assert 0 <= left < right <= canvas_width
    fills_an_axis = (top, bottom) == (0, canvas_height) or (left, right) == (0, canvas_width)
    assert fills_an_axis or ((top, left) == (0, 0) and pads_the_corner(options))


@over_variants
@given(height=SIDES, width=SIDES)
def test_canvas_counts_its_views(options: dict[str, Any], height: int, width: int) -> None:
    plan = build_canvas(options, VARIANTS[str(options)])(height, width)
    has_overview = plan.overview_size is not None
    assert plan.image_size == (height, width)
    assert plan.num_views == plan.tile_grid[0] * plan.tile_grid[1] + has_overview == len(plan.view_boxes)
    assert plan.view_boxes[has_overview:] == plan.tile_boxes
    assert not has_overview or plan.view_boxes[0] == (plan.overview_box or plan.content_box)
    assert list(plan.view_sizes[has_overview:]) == [box.size for box in plan.tile_boxes]


@over_variants
@given(height=SIDES, width=SIDES)
def test_canvas_tells_whether_views_are_equal(options: dict[str, Any], height: int, width: int) -> None:
    tile = VARIANTS[str(options)]
    canvas = build_canvas(options, tile)
    sizes = set(canvas(height, width).view_sizes)
    if canvas.equal_views:
        assert sizes == {tile}
    else:
        patch = options["patch_size"]
        assert canvas.patch_size == patch  # type: ignore[attr-defined]
        assert all(side % patch == 0 for size in sizes for side in size)


BOUNDED = [options for options, _ in SETTINGS if options.get("max_view_area", 0) is not None]


@each("options", BOUNDED, ids=str)
def test_canvas_bounds_the_pixels_of_any_image(options: dict[str, Any]) -> None:
    canvas = build_canvas(options, VARIANTS[str(options)])
    sizes = [(1, 10_000), (10_000, 1), (1, 250_000), (250_000, 1), (10_000, 10_000), (99_991, 3)]
    areas = [sum(height * width for height, width in canvas(*size).view_sizes) for size in sizes]
    assert max(areas) <= 40 * 28 * 28


@over_variants
@given(height=SIDES, width=SIDES)
def test_canvas_is_deterministic_in_integers(options: dict[str, Any], height: int, width: int) -> None:
    plan = build_canvas(options, VARIANTS[str(options)])(height, width)
    assert plan == build_canvas(dict(options), VARIANTS[str(options)])(height, width)
    boxes = (plan.content_box, *plan.tile_boxes)
    assert all(isinstance(box, Box) and all(type(edge) is int for edge in box) for box in boxes)


@each("name", CANVASES)
def test_canvas_refuses_an_empty_image(name: str) -> None:
    with pytest.raises(ValueError, match=r"`image_size` must be at least 1x1 pixels; got 0x5\."):
        build_canvas({"type": name}, SQUARE)(0, 5)


@each("name", CANVASES)
def test_canvas_options_are_keyword_only(name: str) -> None:
    tile_size, *options = inspect.signature(CANVASES[name]).parameters.values()
    assert tile_size.name == "tile_size"
    assert all(option.kind is option.KEYWORD_ONLY for option in options)


def test_a_canvas_may_be_given_by_its_name() -> None:
    assert build_canvas("internvl", TILE)(90, 40) == build_canvas({"type": "internvl"}, TILE)(90, 40)


def test_build_canvas_rejects_an_unknown_type() -> None:
    with pytest.raises(
        ValueError,
        match=r"`canvas.type` must be one of \['deepseek_ocr', 'fila', 'internvl', .*, 'uhd'\]; got 'flia'\.",
    ):
        build_canvas({"type": "flia"}, TILE)


@pytest.mark.parametrize("options", [{}, {"type": None}, {"type": ["fila"]}, {"type": {"fila": 1}}], ids=str)
def test_build_canvas_rejects_a_type_that_is_no_name(options: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError, match=rf"`canvas.type` must be one of .*; got {re.escape(repr(options.get('type')))}"
    ):
        build_canvas(options, TILE)


def test_build_canvas_rejects_an_unknown_option() -> None:
    accepted = r"it accepts \['tile_grids', 'rule', 'overview'\]\."
    with pytest.raises(ValueError, match=rf"Canvas 'fila' has no option \['grids', 'max'\]; {accepted}"):
        build_canvas({"type": "fila", "max": 3, "grids": []}, TILE)


def test_build_canvas_rejects_options_of_another_canvas() -> None:
    with pytest.raises(ValueError, match=r"Canvas 'single' has no option \['overview'\]; it accepts \[\]\."):
        build_canvas({"type": "single", "overview": True}, TILE)


def test_build_canvas_rejects_what_is_no_dict() -> None:
    with pytest.raises(ValueError, match=r"`canvas` must be a name or a dict such as \{'type': 'fila'\}; got 5\."):
        build_canvas(5, TILE)  # type: ignore[arg-type]
