# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest
import torch

from fila.modeling.connector_adaptive_resampler import roi_weights
from tests.modeling.twins import assert_connector_equals, random_connector
from tests.reference.naive_connectors import naive_adaptive_resampler

# fewer patches than windows, a wide one, a tall one
GRIDS = [(2, 3), (5, 11), (13, 4)]


@pytest.mark.parametrize("input_size", [11, 10])
def test_adaptive_resampler_equals_its_slow_twin_on_views_of_any_shape(input_size: int) -> None:
    connector = random_connector({"type": "adaptive_resampler", "grid_size": 3, "num_heads": 5}, input_size, 10)
    features = torch.randn(3, 59, input_size, dtype=torch.float64)
    # the windows' weights are float32: measured 7.0e-7
    assert_connector_equals(
        connector,
        lambda weights, x, view: naive_adaptive_resampler(weights, x, *GRIDS[view], 3, 5),
        features,
        torch.tensor(GRIDS),
        tolerance=2e-6,
    )


def test_padding_is_not_read() -> None:
    connector = random_connector({"type": "adaptive_resampler", "grid_size": 3}, 11, 10)
    features = torch.randn(3, 59, 11, dtype=torch.float64)
    before = connector(features, torch.tensor(GRIDS))
    for view, (rows, cols) in enumerate(GRIDS):
        features[view, rows * cols :] = 100.0
    assert torch.equal(connector(features, torch.tensor(GRIDS)), before)


def test_a_query_reads_its_own_window_only() -> None:
    connector = random_connector({"type": "adaptive_resampler", "grid_size": 3}, 11, 10)
    features = torch.randn(1, 15 * 15, 11, dtype=torch.float64)
    before = connector(features, (15, 15))
    changed = features.unflatten(1, (15, 15)).clone()
    changed[:, 7, 12] += 1  # row 1, column 2 of the windows
    effect = (connector(changed.flatten(1, 2), (15, 15)) - before).abs().amax(-1)[0]
    assert effect.nonzero().flatten().tolist() == [1 * 3 + 2]


@pytest.mark.parametrize(("windows", "bins", "length"), [(12, 3, 24), (12, 4, 47), (5, 2, 31)])
def test_weights_of_a_window_sum_to_one(windows: int, bins: int, length: int) -> None:
    sums = roi_weights(windows, bins, length, torch.device("cpu")).sum(-1)
    assert torch.allclose(sums, torch.ones(windows, bins), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid_size": 0}, r"`connector.grid_size` must be at least 1; got 0"),
        ({"num_heads": 3}, r"`connector.num_heads` must divide the width 10; got 3"),
    ],
)
def test_adaptive_resampler_rejects(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        random_connector({"type": "adaptive_resampler"} | options, 11, 10)
