# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
from typing import Any

import pytest
import torch

from tests.modeling.twins import assert_connector_equals, random_connector
from tests.reference.naive_video_connectors import naive_conv_glu


@pytest.mark.parametrize(
    "options",
    [{}, {"conv": "output", "scaling_factor": 8.0}, {"boundaries": False, "intermediate_size": 11}],
    ids=["video", "image", "plain"],
)
def test_conv_glu_equals_its_slow_twin(options: dict[str, Any]) -> None:
    connector = random_connector({"type": "conv_glu", "intermediate_size": 9} | options, 5, 7)
    assert_connector_equals(
        connector,
        lambda weights, x, view: naive_conv_glu(weights, x, (5, 4), options.get("scaling_factor", 1.0)),
        torch.randn(3, 20, 5, dtype=torch.float64),
        (5, 4),
    )


def test_a_frame_of_cogvlm2_video_is_66_tokens() -> None:
    assert random_connector({"type": "conv_glu"}, 5, 7).tokens_per_tile((16, 16)) == 66


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conv": "both"}, r"`connector.conv` must be one of \['input', 'output'\]; got 'both'"),
        ({"scaling_factor": 0}, r"`connector.scaling_factor` must be above 0; got 0"),
    ],
)
def test_conv_glu_rejects(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        random_connector({"type": "conv_glu"} | options, 5, 7)


def test_conv_glu_rejects_a_grid_without_a_block() -> None:
    with pytest.raises(ValueError, match=r"Connector 'conv_glu' joins 2x2 patches; got a patch grid of 1x6"):
        random_connector({"type": "conv_glu"}, 5, 7).tokens_per_tile((1, 6))
