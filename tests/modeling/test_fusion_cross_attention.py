# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest
import torch

from fila import FilaVisionModel
from fila.modeling.fusion import build_fusion
from tests.helpers import tiny_config
from tests.modeling.twins import GRID, HEADS, assert_same, config, random_fusion, random_inputs
from tests.reference.naive_end_fusions import naive_cross_attention_layer


@pytest.mark.parametrize("stage", [3, 4])
@pytest.mark.parametrize("prefix", [1, 2])
def test_cross_attention_equals_its_slow_twin(stage: int, prefix: int) -> None:
    settings = config({"type": "cross_attention", "taps": [2], "stages": [stage]}, cells=3)
    fusion = random_fusion(settings)
    low, maps = random_inputs(fusion, settings, prefix=prefix)
    low, high = (x.detach()[:3].requires_grad_() for x in (low, maps[0]))
    weights = dict(fusion.layers[0].named_parameters(prefix="tap"))
    expected = torch.stack(
        [
            naive_cross_attention_layer(weights, "tap", view, square, GRID, HEADS)
            for view, square in zip(low, high, strict=True)
        ]
    )
    # the positions are float32: measured 6.2e-8 (a gradient)
    assert_same(fusion.fuse(0, low, high), expected, weights | {"low": low, "high": high}, tolerance=1e-6)


@pytest.mark.parametrize("gate", [True, False])
def test_cross_attention_starts_as_the_low_res_tower(gate: bool) -> None:
    fusion = FilaVisionModel(tiny_config(fusion={"type": "cross_attention", "gate": gate})).fusion
    low = torch.randn(2, 17, 20)
    assert torch.equal(fusion.fuse(0, low, torch.randn(2, 13, 4, 4)), low)


def test_without_positions_the_order_of_the_cells_does_not_matter() -> None:
    for position, matters in (("none", False), ("sincos", True)):
        settings = config({"type": "cross_attention", "taps": [2], "position": position})
        fusion = random_fusion(settings)
        low, maps = random_inputs(fusion, settings, prefix=1)
        mirrored = fusion.fuse(0, low, maps[0].flip(3))
        assert torch.allclose(mirrored, fusion.fuse(0, low, maps[0]), atol=1e-9) != matters


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 5}, r"`fusion.num_heads` must divide the width 12; got 5"),
        ({"position": "learned"}, r"`fusion.position` must be one of \['sincos', 'none'\]"),
        ({"taps": [1, 2], "stages": [1]}, r"must pair up; got \[1, 2\] and \[1\]"),
    ],
)
def test_cross_attention_rejects(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_fusion(config({"type": "cross_attention"} | options))


def test_cross_attention_rejects_a_width_without_positions() -> None:
    with pytest.raises(ValueError, match=r"needs a low-res width divisible by 4; got 9. Use 'none'"):
        build_fusion(config({"type": "cross_attention"}, width=9))
