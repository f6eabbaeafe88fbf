# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest
import torch

from tests.modeling.twins import assert_connector_equals, random_connector
from tests.reference.naive_layers import linear


def test_linear_equals_its_slow_twin() -> None:
    connector = random_connector({"type": "linear"}, 11, 13)
    features = torch.randn(3, 15, 11, dtype=torch.float64)
    assert_connector_equals(connector, lambda weights, x, view: linear(x, weights, "linear"), features, (3, 5))


def test_identity_passes_features_on() -> None:
    connector = random_connector({"type": "identity"}, 13, 13)
    features = torch.randn(3, 15, 13)
    assert connector(features, (3, 5)) is features
    assert connector.tokens_per_tile((3, 5)) == 15


def test_identity_rejects_another_width() -> None:
    with pytest.raises(ValueError, match=r"needs features of the language model's width, 13; the fusion gives 11"):
        random_connector({"type": "identity"}, 11, 13)
