# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import torch

from fila.modeling.view_layout import ViewLayout


def test_positions_are_zero_for_overviews_and_count_tiles_from_one() -> None:
    layout = ViewLayout(num_views=(3, 1, 2), tile_grids=((2, 1), (1, 1), (1, 2)))
    expected = [[0, 0], [1, 1], [2, 1], [1, 1], [1, 1], [1, 2]]
    assert layout.positions(torch.device("cpu")).tolist() == expected
