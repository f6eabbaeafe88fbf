# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Tokens to pixels and back, on plans whose numbers are worked out by hand and on every strategy."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fila.processing.canvas import build_canvas
from fila.processing.canvas_plan import Box, CanvasPlan, Size
from fila.processing.token_boxes import TokenPlace, canvas_to_image, image_to_canvas, token_box, tokens_in
from tests.processing.canvas_variants import VARIANTS, over_variants

# An image of 50x100 at 14x28 on the lower part of a canvas of two tiles, with an overview without padding.
PLAN = CanvasPlan(
    image_size=Size(50, 100),
    canvas_size=Size(28, 28),
    content_box=Box(14, 0, 28, 28),
    tile_grid=(2, 1),
    tile_boxes=(Box(0, 0, 14, 28), Box(14, 0, 28, 28)),
    overview_size=Size(14, 14),
)
GRIDS = [(2, 2), (3, 3), (3, 3)]


@pytest.mark.parametrize(
    ("place", "box"),
    [
        (TokenPlace(0, 0, 0), Box(0, 0, 25, 50)),
        (TokenPlace(0, 1, 1), Box(25, 50, 50, 100)),
        (TokenPlace(1, 2, 2), None),
        # Thirds of 50 and 100: rounded outward.
        (TokenPlace(2, 0, 1), Box(0, 33, 17, 67)),
        (TokenPlace(2, 2, 2), Box(33, 66, 50, 100)),
    ],
)
def test_token_box_golden(place: TokenPlace, box: Box | None) -> None:
    assert token_box(PLAN, place, GRIDS[place.view]) == box


def test_tokens_in_golden() -> None:
    # The pixel in row 16, column 66 lies in the first and the second of the three rows and columns.
    assert tokens_in(PLAN, Box(16, 66, 17, 67), GRIDS) == [
        TokenPlace(0, 0, 1),
        TokenPlace(2, 0, 1),
        TokenPlace(2, 0, 2),
        TokenPlace(2, 1, 1),
        TokenPlace(2, 1, 2),
    ]


def test_boxes_of_the_canvas_and_back() -> None:
    assert canvas_to_image(PLAN, Box(13, 1, 15, 2)) == Box(0, 3, 4, 8)
    assert canvas_to_image(PLAN, Box(0, 0, 14, 28)) is None
    assert image_to_canvas(PLAN, Box(0, 3, 4, 8)) == Box(14, 0, 16, 3)


@over_variants
@given(data=st.data())
def test_every_token_is_among_those_of_its_box(options: dict[str, Any], data: st.DataObject) -> None:
    tile = VARIANTS[str(options)]
    size = data.draw(st.tuples(st.integers(1, 900), st.integers(1, 900)))
    plan = build_canvas(options, tile)(*size)
    grids = [(data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))) for _ in range(plan.num_views)]
    view = data.draw(st.integers(0, plan.num_views - 1))
    rows, cols = grids[view]
    place = TokenPlace(view, data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, cols - 1)))
    box = token_box(plan, place, grids[view])
    shown = tokens_in(plan, Box(0, 0, *size), grids)
    assert (box is not None) == (place in shown)
    if box is not None:
        assert place in tokens_in(plan, box, grids)
        assert 0 <= box.top < box.bottom <= size[0]
        assert 0 <= box.left < box.right <= size[1]


@over_variants
@given(data=st.data())
def test_every_pixel_is_shown_by_its_tokens(options: dict[str, Any], data: st.DataObject) -> None:
    tile = VARIANTS[str(options)]
    height, width = data.draw(st.tuples(st.integers(1, 900), st.integers(1, 900)))
    plan = build_canvas(options, tile)(height, width)
    row, col = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    pixel = Box(row, col, row + 1, col + 1)
    grids = [(3, 2)] * plan.num_views
    boxes = [token_box(plan, place, (3, 2)) for place in tokens_in(plan, pixel, grids)]
    assert boxes
    assert all(box and box.top <= row < box.bottom and box.left <= col < box.right for box in boxes)
    # Tiles cover the image: each pixel is in a tile, and in the overview where there is one.
    views = {place.view for place in tokens_in(plan, pixel, grids)}
    assert views - {0} or plan.overview_size is None
    assert plan.overview_size is None or 0 in views


@pytest.mark.parametrize("box", [Box(0, 0, 51, 1), Box(3, 3, 3, 4), Box(-1, 0, 1, 1)])
def test_tokens_in_rejects_boxes_outside(box: Box) -> None:
    with pytest.raises(ValueError, match=r"is empty or leaves the 50x100 image\."):
        tokens_in(PLAN, box, GRIDS)
