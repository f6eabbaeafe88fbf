# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest
import torch

from tests.modeling.twins import assert_connector_equals, random_connector
from tests.reference.naive_connectors import naive_resampler

GRIDS = [(3, 5), (7, 1), (2, 2)]


@pytest.mark.parametrize("input_size", [11, 12])
def test_resampler_equals_its_slow_twin_on_views_of_any_shape(input_size: int) -> None:
    connector = random_connector({"type": "resampler", "num_queries": 7, "num_heads": 3}, input_size, 12)
    features = torch.randn(3, 17, input_size, dtype=torch.float64)
    # the positions are float32: measured 2.5e-8
    assert_connector_equals(
        connector,
        lambda weights, x, view: naive_resampler(weights, x, *GRIDS[view], 3),
        features,
        torch.tensor(GRIDS),
        tolerance=1e-6,
    )


def test_padding_is_not_read() -> None:
    connector = random_connector({"type": "resampler", "num_queries": 7, "num_heads": 3}, 11, 12)
    features = torch.randn(3, 17, 11, dtype=torch.float64)
    before = connector(features, torch.tensor(GRIDS))
    for view, (rows, cols) in enumerate(GRIDS):
        features[view, rows * cols :] = 100.0
    assert torch.equal(connector(features, torch.tensor(GRIDS)), before)


def test_tokens_do_not_depend_on_the_grid() -> None:
    connector = random_connector({"type": "resampler", "num_queries": 96}, 11, 12)
    assert [connector.tokens_per_tile(grid) for grid in GRIDS] == [96] * 3


@pytest.mark.parametrize(
    ("options", "width", "message"),
    [
        ({"num_queries": 0}, 12, r"`connector.num_queries` must be at least 1; got 0"),
        ({"num_heads": 5}, 12, r"`connector.num_heads` must divide the width 12; got 5"),
        ({}, 13, r"needs a language-model width divisible by 4; got 13"),
    ],
)
def test_resampler_rejects(options: dict[str, object], width: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        random_connector({"type": "resampler"} | options, 11, width)


@pytest.mark.parametrize("grid", [(3, 6), torch.tensor([[3, 6]])], ids=["one", "each"])
def test_resampler_rejects_more_patches_than_features(grid: object) -> None:
    connector = random_connector({"type": "resampler"}, 11, 12)
    with pytest.raises(ValueError, match=r"A view of 18 patches needs as many features; got 17 per view"):
        connector(torch.randn(1, 17, 11).double(), grid)
