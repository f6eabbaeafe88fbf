# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest
import torch

from tests.helpers import assert_close
from tests.modeling.twins import assert_connector_equals, random_connector
from tests.reference.naive_merger import naive_merger


@pytest.mark.parametrize(("rows", "cols", "times"), [(4, 6, 1), (4, 8, 2)])
@pytest.mark.parametrize("norm_first", [False, True])
def test_merger_equals_its_slow_twin(rows: int, cols: int, times: int, norm_first: bool) -> None:
    connector = random_connector({"type": "merger", "times": times, "norm_first": norm_first}, 5, 13)
    features = torch.randn(2, rows * cols, 5, dtype=torch.float64)
    assert_connector_equals(
        connector,
        lambda weights, x, view: naive_merger(weights, x, rows, cols, times, norm_first),
        features,
        (rows, cols),
    )


def test_merger_takes_grids_that_differ() -> None:
    connector = random_connector({"type": "merger"}, 7, 13)
    features, grids = torch.randn(4, 17, 7).double(), [(4, 2), (2, 4), (4, 4), (2, 8)]
    together = connector(features, torch.tensor(grids))
    for view, own, found in zip(features, grids, together, strict=True):
        count = own[0] * own[1]
        assert_close(connector(view[None, :count], own)[0], found[: count // 4], 1e-12)


def test_merger_rejects() -> None:
    with pytest.raises(ValueError, match=r"`connector.times` must be at least 1; got 0"):
        random_connector({"type": "merger", "times": 0}, 7, 13)
    connector = random_connector({"type": "merger", "times": 2}, 7, 13)
    assert (connector.tokens_per_tile((8, 4)), connector.token_grid((8, 4)), connector.patch_block) == (2, (2, 1), 4)
    with pytest.raises(ValueError, match=r"joins 4x4 features, .+ multiples of 4; got 8x6\. Set `connector.times`"):
        connector.tokens_per_tile((8, 6))
