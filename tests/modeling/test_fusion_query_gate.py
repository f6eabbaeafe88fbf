# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest
import torch

from fila import FilaVisionModel
from fila.modeling.fusion import build_fusion
from fila.modeling.view_layout import ViewLayout
from tests.helpers import tiny_config
from tests.modeling.geometry import encoder_inputs
from tests.modeling.twins import (
    HEADS,
    LAYOUT,
    NUM_VIEWS,
    TILE_GRIDS,
    assert_same,
    config,
    random_fusion,
    random_inputs,
)
from tests.reference.naive_end_fusions import naive_query_gate, slices

ALONE = {"high_res_vision_config": None, "high_res_tile_size": None}


@pytest.mark.parametrize("towers", ["two", "one"])
def test_query_gate_equals_its_slow_twin(towers: str) -> None:
    settings = config({"type": "query_gate"}, cells=3, **(ALONE if towers == "one" else {}))
    fusion = random_fusion(settings)
    low, maps = random_inputs(fusion, settings)
    weights = dict(fusion.named_parameters())
    images = []
    highs = maps[0].split(NUM_VIEWS) if maps else [None] * 3
    for own, high, views, grid in zip(low.split(NUM_VIEWS), highs, NUM_VIEWS, TILE_GRIDS, strict=True):
        images.append(naive_query_gate(weights, own, high, slices(views, *grid), HEADS))
    inputs = weights | {"low": low} | ({"high": maps[0]} if maps else {})
    # the positions are float32: measured 9.8e-9
    assert_same(fusion.finish(low, tuple(maps), LAYOUT), torch.cat(images), inputs, tolerance=1e-6)


@pytest.mark.parametrize("position", [True, False])
def test_the_order_of_tiles_matters_through_their_place_alone(position: bool) -> None:
    settings = config({"type": "query_gate", "position": position})
    fusion = random_fusion(settings)
    low, maps = random_inputs(fusion, settings)
    layout = ViewLayout((3,), ((1, 2),))
    low, high = low[:3], maps[0][:3]
    swapped = [0, 2, 1]
    expected = fusion.finish(low, (high,), layout)[swapped]
    found = fusion.finish(low[swapped], (high[swapped],), layout)
    assert torch.allclose(found, expected, atol=1e-9) != position


@pytest.mark.parametrize("bias", [-1e4, 1e4])
def test_a_shut_or_open_gate_gives_either_input(bias: float) -> None:
    settings = config({"type": "query_gate"})
    fusion = random_fusion(settings)
    low, maps = random_inputs(fusion, settings)
    torch.nn.init.constant_(fusion.merge.gate.bias, bias)
    merged = fusion.finish(low, tuple(maps), LAYOUT)
    if bias < 0:
        assert torch.equal(merged, low)
    else:  # what the queries found is the same for all views of an image
        assert all(torch.equal(view, image[0]) for image in merged.split(NUM_VIEWS) for view in image)


def test_images_do_not_read_each_other() -> None:
    settings = config({"type": "query_gate"})
    fusion = random_fusion(settings)
    low, maps = random_inputs(fusion, settings)
    before = fusion.finish(low, tuple(maps), LAYOUT)
    changed = maps[0].detach().clone()
    changed[3] += 1  # the only view of the second image
    after = fusion.finish(low, (changed,), LAYOUT)
    assert (before != after).flatten(1).any(1).nonzero().flatten().tolist() == [3]


def test_single_tower_model_has_queries() -> None:
    model = FilaVisionModel(tiny_config(high_res_vision_config=None, fusion={"type": "query_gate"}))
    assert model.high_res_tower is None
    assert model(**encoder_inputs([(1, 2)], high_res=False)).last_hidden_state.shape == (3, 16, 20)


def test_query_gate_starts_near_the_low_res_tower() -> None:
    merge = FilaVisionModel(tiny_config(fusion={"type": "query_gate"})).fusion.merge
    assert torch.sigmoid(merge.gate.bias).allclose(torch.tensor(0.05))


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        (ALONE, {"stage": 2}, r"`fusion.stage` is 2, but `high_res_vision_config` is None"),
        ({}, {"num_heads": 5}, r"`fusion.num_heads` must divide the width 12; got 5"),
    ],
)
def test_query_gate_rejects(changes: dict[str, object], options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_fusion(config({"type": "query_gate"} | options, **changes))
