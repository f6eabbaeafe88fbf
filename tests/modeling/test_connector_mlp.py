# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest
import torch

from tests.helpers import assert_close
from tests.modeling.twins import assert_connector_equals, random_connector
from tests.reference.naive_connectors import naive_mlp


@pytest.mark.parametrize("norm", ["none", "input", "output"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_mlp_equals_its_slow_twin(depth: int, norm: str) -> None:
    connector = random_connector({"type": "mlp", "depth": depth, "norm": norm}, 11, 13)
    features = torch.randn(3, 15, 11, dtype=torch.float64)
    assert_connector_equals(connector, lambda weights, x, view: naive_mlp(weights, x, depth), features, (3, 5))


@pytest.mark.parametrize("norm", ["none", "input"])
def test_residual_adds_what_the_layers_read(norm: str) -> None:
    plain = random_connector({"type": "mlp", "norm": norm}, 13, 13)
    added = random_connector({"type": "mlp", "norm": norm, "residual": True}, 13, 13)
    added.load_state_dict(plain.state_dict())
    x = torch.randn(3, 15, 13, dtype=torch.float64)
    assert_close(added(x, (3, 5)), plain(x, (3, 5)) + plain.input_norm(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"residual": True}, r"`connector.residual` adds features to image tokens.* one width; got 11 and 13"),
        ({"depth": 0}, r"`connector.depth` must be at least 1; got 0"),
        ({"norm": "pre"}, r"`connector.norm` must be one of \['none', 'input', 'output'\]; got 'pre'"),
    ],
)
def test_mlp_rejects(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        random_connector({"type": "mlp"} | options, 11, 13)
