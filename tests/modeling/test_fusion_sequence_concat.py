# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
from types import SimpleNamespace

import pytest

from fila.modeling.connector_pixel_shuffle import PixelShuffleConnector
from fila.modeling.fusion import build_fusion
from tests.helpers import assert_close
from tests.modeling.twins import (
    GRID,
    LAYOUT,
    assert_end_fusion_equals,
    config,
    random_fusion,
    random_inputs,
    text_of_width,
)
from tests.reference.naive_end_fusions import naive_sequence_concat


@pytest.mark.parametrize(("order", "stage"), [("append", 4), ("append", 3), ("interleave", 4)])
def test_sequence_concat_equals_its_slow_twin(order: str, stage: int) -> None:
    options = {"type": "sequence_concat", "order": order, "stage": stage}
    assert_end_fusion_equals(config(options), lambda *args: naive_sequence_concat(*args, order))


@pytest.mark.parametrize(
    ("options", "tokens"),
    [
        ({}, 2 * GRID**2),
        ({"stage": 3}, GRID**2 + (2 * GRID) ** 2),
        ({"stage": 3, "align": "pool", "order": "interleave"}, 2 * GRID**2),
    ],
)
def test_sequence_concat_tells_how_many_tokens_it_makes(options: dict[str, object], tokens: int) -> None:
    settings = config({"type": "sequence_concat"} | options)
    fusion = random_fusion(settings)
    low, maps = random_inputs(fusion, settings)
    assert fusion.output_grid == (1, tokens)
    assert fusion.finish(low, tuple(maps), LAYOUT).shape == (len(low), tokens, 12)


def test_leo_has_a_connector_per_tower_and_takes_turns() -> None:
    connectors = [
        {"type": "pixel_shuffle", "factor": 5},
        {"type": "pixel_shuffle", "factor": 10, "order": "channel_first"},
    ]
    options = {"type": "sequence_concat", "order": "interleave", "stage": 3, "connectors": connectors}
    settings = config(options, text_config=text_of_width(8))
    fusion = random_fusion(settings)
    low, maps = random_inputs(fusion, settings)
    tokens = fusion.finish(low, tuple(maps), LAYOUT)
    assert tokens.shape == (len(low), 2, 8)
    assert (fusion.output_size, fusion.output_grid) == (8, (1, 2))
    text = SimpleNamespace(text_config=SimpleNamespace(hidden_size=8))
    second = PixelShuffleConnector(text, input_size=11, factor=10, order="channel_first").double()
    second.load_state_dict(fusion.connectors[1].state_dict())
    assert_close(tokens[:, 1:], second(maps[0].flatten(2).transpose(1, 2), (10, 10)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "shuffle"}, r"`fusion.order` must be one of \['append', 'interleave'\]; got 'shuffle'"),
        ({"order": "interleave", "stage": 3}, r"the low-res tower has 25 and the high-res tower 100 per view"),
        ({"connectors": [{"type": "mlp"}]}, r"`fusion.connectors` must hold one connector per tower, 2; got 1"),
        ({"connectors": [{"type": "mlp"}, {"type": "mpl"}]}, r"`connector.type` must be one of"),
        ({"stage": 5}, r"`fusion.stage` must be a stage of the high-res tower, 1\.\.4; got 5"),
    ],
)
def test_sequence_concat_rejects(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_fusion(config({"type": "sequence_concat"} | options))
