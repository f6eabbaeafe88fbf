# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
from typing import Any

import pytest
import torch

from fila.modeling.view_layout import ViewLayout
from tests.helpers import random_image, single_tower, tiny_image_processor, tiny_model


def test_positions_are_zero_for_overviews_and_count_tiles_from_one() -> None:
    layout = ViewLayout(num_views=(3, 1, 2), tile_grids=((2, 1), (1, 1), (1, 2)))
    expected = [[0, 0], [1, 1], [2, 1], [1, 1], [1, 1], [1, 2]]
    assert layout.positions(torch.device("cpu")).tolist() == expected


@pytest.mark.parametrize("changes", [{}, single_tower()], ids=["hybrid", "single-tower"])
@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("tile_grid", lambda grid: 3 * grid, r"Image 0 must have the 3x6 tiles of its `tile_grid`.* hold 3 views"),
        ("tile_grid", lambda grid: grid[:1], r"`tile_grid` must have one row per image; it has 1 for 2 images"),
        ("pixel_values", lambda views: views[:1], r"`pixel_values` must have one row per image; it has 1 for 2"),
        ("pixel_values", lambda views: views[:, :2], r"Image 0 has 3 views by its `view_boxes`; .* holds 2"),
    ],
    ids=["tiles", "grids", "images", "views"],
)
@torch.no_grad()
def test_tensors_that_contradict_each_other_are_named(
    changes: dict[str, Any], name: str, change: Any, message: str
) -> None:
    inputs = tiny_image_processor()([random_image(28, 56), random_image(28, 28)], return_tensors="pt")
    inputs[name] = change(inputs[name])
    with pytest.raises(ValueError, match=message):
        tiny_model(**changes).get_image_features(**inputs)
