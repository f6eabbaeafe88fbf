# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The EVA2-CLIP tower against its slow twin; what all ViT towers share is in `test_tower_vit.py`."""

from typing import Any

import pytest
import torch

from fila.modeling.configuration_eva2_clip import Eva2ClipConfig
from fila.modeling.tower_positions import interpolated_positions
from fila.modeling.towers import build_low_res_tower
from tests.helpers import assert_close, randomise
from tests.modeling.tiny_towers import low_res, tower_config
from tests.reference.naive_eva2_clip import naive_eva2_clip


def eva2_clip(num_layers: int = 3) -> Any:
    # a large epsilon shows one that is not passed on
    tower = build_low_res_tower(tower_config(low_res("eva2_clip", layer_norm_eps=0.03)), num_layers).double().eval()
    randomise(tower)
    return tower


@pytest.mark.parametrize("size", [(28, 28), (35, 21)], ids=str)
def test_tower_equals_its_twin_in_output_and_gradient(size: tuple[int, int]) -> None:
    tower = eva2_clip()
    weights = {key: value.detach().clone().requires_grad_() for key, value in tower.named_parameters()}
    views = torch.randn(2, 3, *size, dtype=torch.float64)
    table = weights["embeddings.position_embedding.weight"]
    patches = interpolated_positions(table[1:], (size[0] // 7, size[1] // 7))
    positions = torch.cat([table[:1], patches])
    expected = torch.stack([naive_eva2_clip(weights, tower.config, view, positions) for view in views])
    found = tower.finish(tower.run_layers(tower.embed(views), 0, 3))
    assert_close(found, expected, 1e-11)
    direction = torch.randn_like(found)
    (found * direction).sum().backward()
    theirs = torch.autograd.grad((expected * direction).sum(), list(weights.values()))
    for (key, mine), yours in zip(tower.named_parameters(), theirs, strict=True):
        assert mine.grad is not None, key
        # the softmax does not see a bias of the keys
        assert mine.grad.any() or key.endswith("k_proj.bias"), key
        # a resampled table's gradient goes through single precision
        assert_close(mine.grad / (1 + yours.abs().max()), yours / (1 + yours.abs().max()), 1e-6)


@torch.no_grad()
def test_fewer_layers_are_the_first_ones() -> None:
    whole, part = eva2_clip(), eva2_clip(num_layers=2)
    missing, unexpected = part.load_state_dict(whole.state_dict(), strict=False)
    assert missing == []
    assert {key.split(".")[2] for key in unexpected} == {"2"}
    views = torch.randn(1, 3, 28, 28, dtype=torch.float64)
    hidden = whole.embed(views)
    assert_close(part.run_layers(part.embed(views), 0, 2), whole.run_layers(hidden, 0, 2))


def test_defaults_are_those_of_cogvlm2_video() -> None:
    config = Eva2ClipConfig()
    with torch.device("meta"):
        tower = build_low_res_tower(config, config.num_hidden_layers)
    shapes = {key: tuple(value.shape) for key, value in tower.state_dict().items()}
    assert shapes["embeddings.position_embedding.weight"] == (257, 1792)
    # stacked queries, keys and values are three tensors each for weight and bias here
    assert len(shapes) - 63 * 4 == 4 + 63 * 12
    assert config.hidden_act == "gelu"
    assert config.layer_norm_eps == 1e-6
