# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""CanvasPlan: what it counts and what it refuses."""

import dataclasses

import pytest

from fila.processing.canvas_plan import Box, CanvasPlan, Size, even_tile_boxes
from tests.cases import each

PLAN = CanvasPlan(
    image_size=Size(11, 29),
    canvas_size=Size(13, 34),
    content_box=Box(0, 1, 13, 33),
    tile_grid=(1, 2),
    tile_boxes=(Box(0, 0, 13, 17), Box(0, 17, 13, 34)),
    overview_size=Size(13, 17),
)


def test_plan_counts_the_overview_as_a_view() -> None:
    assert (PLAN.num_tiles, PLAN.num_views) == (2, 3)
    assert PLAN.view_boxes == (Box(0, 1, 13, 33), Box(0, 0, 13, 17), Box(0, 17, 13, 34))


def test_plan_without_overview_has_tiles_only() -> None:
    plan = dataclasses.replace(PLAN, overview_size=None)
    assert (plan.num_tiles, plan.num_views) == (2, 2)
    assert plan.view_boxes == PLAN.tile_boxes


def test_plan_knows_the_size_of_each_view() -> None:
    assert PLAN.view_sizes == (Size(13, 17), Size(13, 17), Size(13, 17))
    assert dataclasses.replace(PLAN, overview_size=Size(3, 5)).view_sizes[0] == Size(3, 5)
    assert dataclasses.replace(PLAN, overview_size=None).view_sizes == (Size(13, 17), Size(13, 17))


def test_overview_shows_the_content_unless_a_box_is_given() -> None:
    assert PLAN.content_in_overview == Box(0, 0, 13, 17)
    whole = dataclasses.replace(PLAN, overview_box=Box(0, 0, 13, 34))
    assert whole.view_boxes[0] == Box(0, 0, 13, 34)
    # Columns 1 to 33 of 34 lie at 0.5 and 16.5 of 17, rounded half up.
    assert whole.content_in_overview == Box(0, 1, 13, 17)
    assert dataclasses.replace(PLAN, overview_size=None).content_in_overview is None


def test_plan_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PLAN.tile_grid = (2, 1)  # type: ignore[misc]


def test_plan_accepts_overlapping_and_unequal_tiles() -> None:
    plan = dataclasses.replace(PLAN, tile_boxes=(Box(0, 0, 13, 20), Box(0, 17, 11, 34)))
    assert plan.num_tiles == 2


def test_box_size() -> None:
    assert Box(2, 3, 7, 20).size == Size(5, 17)


def test_even_tile_boxes_are_row_major() -> None:
    assert even_tile_boxes((2, 2), Size(3, 5)) == (
        Box(0, 0, 3, 5),
        Box(0, 5, 3, 10),
        Box(3, 0, 6, 5),
        Box(3, 5, 6, 10),
    )


@each(
    ("changes", "message"),
    [
        ({"image_size": Size(0, 7)}, r"`image_size` must be at least 1x1 pixels; got 0x7\."),
        ({"canvas_size": Size(13, -1)}, r"`canvas_size` must be at least 1x1 pixels; got 13x-1\."),
        ({"overview_size": Size(0, 0)}, r"`overview_size` must be at least 1x1 pixels; got 0x0\."),
        ({"tile_grid": (2, 2)}, r"A 2x2 tile grid needs 4 tile boxes; got 2\."),
        ({"tile_grid": (0, 2), "tile_boxes": ()}, r"A 0x2 tile grid needs 0 tile boxes; got 0\."),
        (
            {"content_box": Box(0, 0, 14, 34)},
            r"The content box \(0, 0, 14, 34\) is empty or leaves the 13x34 canvas; boxes are \(top, left, ",
        ),
        ({"content_box": Box(-1, 0, 13, 34)}, r"The content box \(-1, 0, 13, 34\) is empty or leaves"),
        ({"content_box": Box(5, 5, 5, 9)}, r"The content box \(5, 5, 5, 9\) is empty or leaves"),
        ({"tile_boxes": (Box(0, 0, 13, 17), Box(0, 17, 13, 35))}, r"Tile 1 \(0, 17, 13, 35\) is empty or leaves"),
        ({"overview_box": Box(0, 2, 13, 34)}, r"The overview \(0, 2, 13, 34\) must lie on the 13x34 canvas and hold"),
        ({"overview_box": Box(0, 0, 13, 35)}, r"The overview \(0, 0, 13, 35\) must lie on the 13x34 canvas and hold"),
        (
            {"overview_size": None, "overview_box": Box(0, 0, 13, 34)},
            r"`overview_box` is set, but the plan has no overview: `overview_size` is None\.",
        ),
        ({"padded_size": Size(10, 40)}, r"`padded_size` must hold the 11x29 image; got 10x40\."),
    ],
    ids=lambda value: value if isinstance(value, str) else ",".join(value),
)
def test_plan_rejects_impossible_geometry(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(PLAN, **changes)
