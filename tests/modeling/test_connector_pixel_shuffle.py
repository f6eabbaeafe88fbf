# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest
import torch

from tests.helpers import assert_close
from tests.modeling.twins import assert_connector_equals, random_connector
from tests.reference.naive_connectors import naive_pixel_shuffle


@pytest.mark.parametrize(("rows", "cols", "factor"), [(4, 6, 2), (9, 3, 3), (5, 7, 1)])
@pytest.mark.parametrize("order", ["v1", "v2", "channel_first"])
def test_pixel_shuffle_equals_its_slow_twin(order: str, rows: int, cols: int, factor: int) -> None:
    connector = random_connector({"type": "pixel_shuffle", "order": order, "factor": factor}, 7, 13)
    features = torch.randn(3, rows * cols, 7, dtype=torch.float64)
    assert_connector_equals(
        connector,
        lambda weights, x, view: naive_pixel_shuffle(weights, x, rows, cols, factor, order),
        features,
        (rows, cols),
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "v3"}, r"`connector.order` must be one of \['v1', 'v2', 'channel_first'\]; got 'v3'"),
        ({"factor": 0}, r"`connector.factor` must be at least 1; got 0"),
    ],
)
def test_pixel_shuffle_rejects(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        random_connector({"type": "pixel_shuffle"} | options, 7, 13)


def test_pixel_shuffle_rejects_grids_that_are_not_whole_blocks() -> None:
    connector = random_connector({"type": "pixel_shuffle"}, 7, 13)
    with pytest.raises(ValueError, match=r"both sides of the patch grid must be multiples of 2; got 4x5"):
        connector.tokens_per_tile((4, 5))


@pytest.mark.parametrize("order", ["v1", "v2", "channel_first"])
def test_pixel_shuffle_takes_grids_that_differ(order: str) -> None:
    connector = random_connector({"type": "pixel_shuffle", "order": order}, 7, 13)
    features = torch.randn(3, 16, 7).double()
    grids = [(4, 2), (2, 4), (4, 4)]
    together = connector(features, torch.tensor(grids))
    for view, own, found in zip(features, grids, together, strict=True):
        count = own[0] * own[1]
        assert_close(connector(view[None, :count], own)[0], found[: count // 4], 1e-12)
