# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Every canvas strategy of the table keeps the promises of a CanvasPlan."""

import inspect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fila.processing.canvas import CANVASES, build_canvas
from fila.processing.canvas_plan import Box, Size

TILE = Size(7, 11)
VARIANTS: list[dict[str, Any]] = [
    {"type": "fila"},
    {"type": "fila", "rule": "llava_next"},
    {"type": "fila", "overview": False},
    {"type": "fila", "tile_grids": [[1, 1], [3, 2], [1, 5]]},
    {"type": "single"},
]
SIDES = st.one_of(st.integers(1, 60), st.integers(1, 100_000))
over_variants = pytest.mark.parametrize("options", VARIANTS, ids=str)


def test_every_canvas_has_a_variant_here() -> None:
    assert {options["type"] for options in VARIANTS} == set(CANVASES)


@over_variants
@given(height=SIDES, width=SIDES)
def test_canvas_tiles_cover_the_canvas_once(options: dict[str, Any], height: int, width: int) -> None:
    plan = build_canvas(options, TILE)(height, width)
    covered = [
        (row, column)
        for box in plan.tile_boxes
        for row in range(box.top, box.bottom)
        for column in range(box.left, box.right)
    ]
    every = {(row, column) for row in range(plan.canvas_size.height) for column in range(plan.canvas_size.width)}
    assert len(covered) == len(every)
    assert set(covered) == every


@over_variants
@given(height=SIDES, width=SIDES)
def test_canvas_tiles_are_row_major(options: dict[str, Any], height: int, width: int) -> None:
    plan = build_canvas(options, TILE)(height, width)
    rows, cols = plan.tile_grid
    corners = [(box.top, box.left) for box in plan.tile_boxes]
    assert corners == sorted(corners)
    assert len({top for top, _ in corners}) == rows
    assert len({left for _, left in corners}) == cols


@over_variants
@given(height=SIDES, width=SIDES)
def test_canvas_content_lies_inside_and_touches_two_opposite_edges(
    options: dict[str, Any], height: int, width: int
) -> None:
    plan = build_canvas(options, TILE)(height, width)
    top, left, bottom, right = plan.content_box
    canvas_height, canvas_width = plan.canvas_size
    assert 0 <= top < bottom <= canvas_height
    assert 0 <= left < right <= canvas_width
    assert (top, bottom) == (0, canvas_height) or (left, right) == (0, canvas_width)


@over_variants
@given(height=SIDES, width=SIDES)
def test_canvas_counts_its_views(options: dict[str, Any], height: int, width: int) -> None:
    plan = build_canvas(options, TILE)(height, width)
    has_overview = plan.overview_size is not None
    assert plan.image_size == (height, width)
    assert plan.num_views == plan.tile_grid[0] * plan.tile_grid[1] + has_overview == len(plan.view_boxes)
    assert plan.view_boxes[has_overview:] == plan.tile_boxes
    assert not has_overview or plan.view_boxes[0] == plan.content_box


@over_variants
@given(height=SIDES, width=SIDES)
def test_canvas_is_deterministic_in_integers(options: dict[str, Any], height: int, width: int) -> None:
    plan = build_canvas(options, TILE)(height, width)
    assert plan == build_canvas(dict(options), TILE)(height, width)
    boxes = (plan.content_box, *plan.tile_boxes)
    assert all(isinstance(box, Box) and all(type(edge) is int for edge in box) for box in boxes)


@pytest.mark.parametrize("name", CANVASES)
def test_canvas_refuses_an_empty_image(name: str) -> None:
    with pytest.raises(ValueError, match=r"`image_size` must be at least 1x1 pixels; got 0x5\."):
        build_canvas({"type": name}, TILE)(0, 5)


@pytest.mark.parametrize("name", CANVASES)
def test_canvas_options_are_keyword_only(name: str) -> None:
    tile_size, *options = inspect.signature(CANVASES[name]).parameters.values()
    assert tile_size.name == "tile_size"
    assert all(option.kind is option.KEYWORD_ONLY for option in options)


def test_build_canvas_rejects_an_unknown_type() -> None:
    with pytest.raises(ValueError, match=r"`canvas.type` must be one of \['fila', 'single'\]; got 'flia'\."):
        build_canvas({"type": "flia"}, TILE)


def test_build_canvas_rejects_a_missing_type() -> None:
    with pytest.raises(ValueError, match=r"`canvas.type` must be one of .*; got None\."):
        build_canvas({}, TILE)


def test_build_canvas_rejects_an_unknown_option() -> None:
    accepted = r"it accepts \['tile_grids', 'rule', 'overview'\]\."
    with pytest.raises(ValueError, match=rf"Canvas 'fila' has no option \['grids', 'max'\]; {accepted}"):
        build_canvas({"type": "fila", "max": 3, "grids": []}, TILE)


def test_build_canvas_rejects_options_of_another_canvas() -> None:
    with pytest.raises(ValueError, match=r"Canvas 'single' has no option \['overview'\]; it accepts \[\]\."):
        build_canvas({"type": "single", "overview": True}, TILE)


def test_build_canvas_rejects_what_is_no_dict() -> None:
    with pytest.raises(ValueError, match=r"`canvas` must be a dict such as \{'type': 'fila'\}; got 'fila'\."):
        build_canvas("fila", TILE)  # type: ignore[arg-type]
