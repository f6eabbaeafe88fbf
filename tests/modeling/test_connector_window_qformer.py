# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest
import torch

from tests.cases import each
from tests.modeling.twins import assert_connector_equals, random_connector
from tests.reference.naive_connectors import naive_window_qformer

OPTIONS = {
    "type": "window_qformer",
    "query_side": 2,
    "window_side": 4,
    "intermediate_size": 11,
    "num_heads": 3,
    "dropout": 0.0,
}


@each("corner", [None, 0, 1, 2, 3])
@each("grid", [(4, 8), (8, 4)])
def test_window_qformer_equals_its_slow_twin(corner: int | None, grid: tuple[int, int]) -> None:
    connector = random_connector(OPTIONS | {"corner": corner, "num_layers": 2}, 6, 5)
    features = torch.randn(2, grid[0] * grid[1], 6, dtype=torch.float64)
    assert_connector_equals(
        connector,
        lambda weights, x, view: naive_window_qformer(weights, x, grid, query=2, window=4, corner=corner, heads=3),
        features,
        grid,
        tolerance=1e-10,
        unseen=("key.bias",),  # it adds the same to every score of a query
    )


def test_window_qformer_reads_each_window_alone() -> None:
    connector = random_connector(OPTIONS, 6, 5)
    features = torch.randn(1, 32, 6, dtype=torch.float64)
    changed = features.clone()
    changed[0, 0, 0] += 1  # in the left window of 4 x 8 patches
    moved = (connector(features, (4, 8)) != connector(changed, (4, 8))).any(-1)[0].unflatten(0, (2, 4))
    assert moved.tolist() == [[True, True, False, False]] * 2


@each(
    ("options", "message"),
    [
        (
            {"corner": 0, "query_side": 1},
            "`connector.corner` takes one patch .* got `query_side` 1 and `window_side` 4",
        ),
        ({"corner": 4}, "`connector.corner` must be 0, 1, 2, 3 or null; got 4"),
        ({"num_heads": 4}, "`connector.num_heads` must divide the features' width 6; got 4"),
        ({"query_side": 5}, "needs 1 <= `query_side` <= `window_side`"),
        ({"num_layers": 0}, "needs 1 <= `query_side` <= `window_side`"),
    ],
)
def test_window_qformer_rejects(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        random_connector(OPTIONS | options, 6, 5)


def test_window_qformer_rejects_grids_that_are_not_whole_windows() -> None:
    connector = random_connector(OPTIONS, 6, 5)
    with pytest.raises(ValueError, match=r"must be multiples of 4; got 6x8"):
        connector.tokens_per_tile((6, 8))
