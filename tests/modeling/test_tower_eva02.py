# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The EVA-02 tower against its slow twin."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from fila.modeling.tower_eva02 import Eva02Tower, from_windows, to_windows
from fila.modeling.tower_options import TowerError
from fila.modeling.towers import build_high_res_tower
from tests.helpers import assert_close, randomise
from tests.modeling.tiny_towers import high_res, tower_config
from tests.reference.naive_eva02 import naive_eva02


def eva02(**options: Any) -> Any:
    tower: Any = build_high_res_tower(tower_config(high_res("eva02", tower_options=options)), 1).double().eval()
    randomise(tower)
    return tower


@pytest.mark.parametrize("side", [5, 3, 6])
def test_tower_equals_its_twin_in_output_and_gradient(side: int) -> None:
    """Five patches per side are two windows of three that stick out, three are one window."""
    tower = eva02()
    weights = {key: value.detach().clone().requires_grad_() for key, value in tower.named_parameters()}
    views = torch.randn(2, 3, 16 * side, 16 * side, dtype=torch.float64)
    table = weights["pos_embed"][:, 1:].transpose(1, 2).unflatten(2, (3, 3)).float()
    positions = F.interpolate(table, (side, side), mode="bicubic", align_corners=False).double()
    projection = weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"]
    tokens = (F.conv2d(views, *projection, stride=16) + positions).permute(0, 2, 3, 1)
    expected = torch.stack([naive_eva02(weights, tower.config, view) for view in tokens]).permute(0, 3, 1, 2)
    found = tower(views)
    assert Eva02Tower.stage_shape(tower.config, 1, 16 * side) == (24, side) == found.shape[1:3]
    assert_close(found, expected, 1e-5)  # angles are in single precision: 2e-6 measured
    direction = torch.randn_like(found)
    (found * direction).sum().backward()
    theirs = torch.autograd.grad((expected * direction).sum(), list(weights.values()))
    for (key, mine), yours in zip(tower.named_parameters(), theirs, strict=True):
        assert mine.grad is not None, key
        assert mine.grad.any(), key
        assert_close(mine.grad / yours.abs().max(), yours / yours.abs().max(), 1e-5)


@pytest.mark.parametrize(("side", "size"), [(5, 3), (6, 3), (7, 2)])
def test_windows_are_put_back(side: int, size: int) -> None:
    features = torch.randn(2, side, side, 3)
    windows = to_windows(features, size)
    assert windows.shape == (2 * (-(-side // size)) ** 2, size, size, 3)
    assert torch.equal(windows[1, 0, 0], features[0, 0, size])
    assert torch.equal(from_windows(windows, side), features)


@torch.no_grad()
def test_input_size_and_unshuffle() -> None:
    plain, tower = eva02(), eva02(input_size=64, unshuffle=2)
    tower.load_state_dict(plain.state_dict())
    views = torch.randn(1, 3, 100, 100, dtype=torch.float64)
    resized = F.interpolate(views, (64, 64), mode="bilinear", align_corners=True)
    assert Eva02Tower.stage_shape(tower.config, 1, 100) == (96, 2)
    assert_close(tower(views), F.pixel_unshuffle(plain(resized), 2), 1e-9)


@torch.no_grad()
def test_tower_runs_in_bfloat16() -> None:
    found = eva02().bfloat16()(torch.randn(1, 3, 80, 80))
    assert found.dtype == torch.bfloat16
    assert found.isfinite().all()


def test_new_weights_have_their_initial_values() -> None:
    tower: Any = build_high_res_tower(tower_config(high_res("eva02")), 1)
    assert 0.015 < tower.pos_embed.std() < 0.025
    assert not tower.blocks[0].attn.q_bias.any()


@pytest.mark.parametrize(
    ("options", "tile", "message"),
    [
        ({"unshuffle": 0}, 64, r"`tower_options.unshuffle` must be at least 1; got 0"),
        ({}, 72, r"Tower 'eva02' encodes views in cells of 16 pixels; 72 pixels are not whole cells"),
        ({"neck": "short"}, 64, r"Tower 'eva02' has no option \['neck'\]"),
    ],
)
def test_tower_names_what_is_wrong(options: dict[str, Any], tile: int, message: str) -> None:
    with pytest.raises(TowerError, match=message):
        Eva02Tower.stage_shape(tower_config(high_res("eva02", tower_options=options)), 1, tile)
