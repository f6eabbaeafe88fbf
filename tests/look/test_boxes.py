# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Boxes there and back: by hand, and within one unit for many sizes and every canvas."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest

from fila.look.boxes import (
    Box,
    Box999,
    BoxError,
    canvas_to_image,
    from_999,
    image_to_canvas,
    image_to_view,
    to_999,
    view_to_image,
)
from fila.processing.canvas import CANVASES, build_canvas
from fila.processing.canvas_plan import CanvasPlan, Size
from fila.processing.token_boxes import TokenPlace, token_box, tokens_in
from tests.cases import each
from tests.processing.canvas_variants import SETTINGS

# An image of 50x100 in the middle of a square canvas of 28: 14 rows of it, between 7 rows of padding on either side.
PADDED = CanvasPlan(Size(50, 100), Size(28, 28), Box(7, 0, 21, 28), (1, 1), (Box(0, 0, 28, 28),))


def test_999_is_of_the_image_and_not_of_the_padded_canvas() -> None:
    box = view_to_image(PADDED, 0, Box(7, 14, 14, 28))
    assert box == Box(0, 50, 25, 100)
    assert to_999(box, PADDED.image_size) == Box999(left=500, top=0, right=999, bottom=500)
    assert from_999([500, 0, 999, 500], PADDED.image_size) == box


def test_padding_is_no_part_of_the_image() -> None:
    assert view_to_image(PADDED, 0, Box(0, 0, 7, 28)) is None
    assert view_to_image(PADDED, 0, Box(0, 0, 8, 28)) == Box(0, 0, 4, 100)


def test_view_shows_its_part_of_the_image() -> None:
    plan = CanvasPlan(
        Size(40, 40), Size(20, 20), Box(0, 0, 20, 20), (1, 2), (Box(0, 0, 20, 10), Box(0, 10, 20, 20)), Size(10, 10)
    )
    found = [image_to_view(plan, view, Box(4, 18, 9, 30)) for view in range(3)]
    assert found == [Box(1, 4, 3, 8), Box(2, 9, 5, 10), Box(2, 0, 5, 5)]
    assert image_to_view(plan, 1, Box(0, 30, 9, 40)) is None


@each(
    ("numbers", "reason"),
    [
        ([0, 0, 1000, 5], "four whole numbers from 0 to 999"),
        ([0, 0, 5], "four whole numbers"),
        ([0.5, 0, 5, 5], "four whole numbers"),
        ([9, 0, 5, 5], "left before right and top above bottom"),
    ],
)
def test_what_a_model_writes_wrong_is_refused(numbers: list[int], reason: str) -> None:
    with pytest.raises(BoxError, match=reason):
        from_999(numbers, (10, 10))


def test_boxes_outside_are_refused() -> None:
    with pytest.raises(BoxError, match=r"is empty or leaves the image of 50x100 pixels\."):
        to_999(Box(0, 0, 51, 1), (50, 100))
    with pytest.raises(BoxError, match=r"leaves the view 0 of 28x28 pixels\."):
        view_to_image(PADDED, 0, Box(0, 0, 29, 1))
    with pytest.raises(BoxError, match=r"has views 0 to 0; got 1\."):
        image_to_view(PADDED, 1, Box(0, 0, 1, 1))


def test_a_point_is_one_pixel() -> None:
    assert from_999([999, 999, 999, 999], (50, 100)) == Box(49, 99, 50, 100)


def check_round_trips(sizes: int) -> None:
    """Check the ways there and back of one box each, for so many sizes and every canvas with its variants."""
    rng = np.random.default_rng(0)
    canvases = [build_canvas(options, tile) for options, tile in SETTINGS]
    for number, (canvas, _) in product(range(sizes), enumerate(canvases)):
        height, width = (int(side) for side in np.exp(rng.uniform(0, np.log(6000), 2)).astype(int))
        top, left = (int(rng.integers(0, side)) for side in (height, width))
        box = Box(top, left, int(rng.integers(top, height)) + 1, int(rng.integers(left, width)) + 1)
        check_round_trip(canvases[canvas](height, width), box, (number, canvas))


def check_round_trip(plan: CanvasPlan, box: Box, case: object) -> None:
    size = plan.image_size
    numbers = to_999(box, size)
    assert all(0 <= number <= 999 for number in numbers), case
    back = from_999(numbers, size)
    unit = [max(1, side / 999) for side in (*size, *size)]
    assert all(abs(a - b) <= most for a, b, most in zip(back, box, unit, strict=True)), (case, box, back)
    again = to_999(back, size)
    unit = [max(1, 999 / side) for side in (size[1], size[0]) * 2]
    assert all(abs(a - b) <= most for a, b, most in zip(again, numbers, unit, strict=True)), (case, numbers, again)
    content = plan.content_box.size
    back_from_canvas = canvas_to_image(plan, image_to_canvas(plan, box))
    assert back_from_canvas is not None, case
    check_outward(box, back_from_canvas, size, content, case)
    shown = 0
    for view in range(plan.num_views):
        there = image_to_view(plan, view, box)
        if there is None:
            continue
        shown += 1
        back_from_view = view_to_image(plan, view, there)
        assert back_from_view is not None, case
        cell = token_box(plan, TokenPlace(view, there.top, there.left), plan.view_sizes[view])
        assert cell is None or (cell.top <= back_from_view.bottom and cell.left <= back_from_view.right), case
        again_there = image_to_view(plan, view, back_from_view)
        assert again_there is not None, case
        scale = [plan.view_sizes[view][axis] / plan.view_boxes[view].size[axis] * content[axis] for axis in (0, 1)]
        check_outward(there, again_there, scale, size, case)
    assert shown, case
    (place, *_) = tokens_in(plan, Box(*box[:2], box.top + 1, box.left + 1), [(3, 2)] * plan.num_views)
    first = token_box(plan, place, (3, 2))
    assert first is not None, case
    assert first.top <= box.top < first.bottom, case
    assert first.left <= box.left < first.right, case


def check_outward(box: Box, back: Box, fine: Sequence[float], coarse: Sequence[float], case: object) -> None:
    """Check that a box came back no smaller, and larger by at most a unit of the coarser coordinates on each side."""
    assert back.top <= box.top, case
    assert back.left <= box.left, case
    for axis, edge in enumerate(box):
        most = np.ceil(max(1, fine[axis % 2] / coarse[axis % 2]))
        assert abs(edge - back[axis]) <= most, (case, box, back)


def test_round_trips_stay_within_one_unit() -> None:
    check_round_trips(40)


@pytest.mark.nightly
def test_ten_thousand_sizes_stay_within_one_unit_on_every_canvas() -> None:
    check_round_trips(10_000)


def test_the_canvases_are_all_of_the_table() -> None:
    assert {options["type"] for options, _ in SETTINGS} == set(CANVASES)
