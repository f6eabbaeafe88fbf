# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""SAM's encoder against transformers' own, its necks and its unshuffle."""

from typing import Any

import pytest
import torch
from transformers.models.sam.modeling_sam import SamVisionEncoder

from fila.modeling.tower_options import TowerError
from fila.modeling.tower_sam import SamTower
from fila.modeling.towers import build_high_res_tower
from tests.helpers import assert_close, randomise
from tests.modeling.tiny_towers import high_res, tower_config


def sam(**options: Any) -> Any:
    tower: Any = build_high_res_tower(tower_config(high_res("sam_vision_model", tower_options=options)), 1).eval()
    randomise(tower)
    return tower


@torch.no_grad()
def test_sam_tower_equals_transformers() -> None:
    tower = sam()
    source = SamVisionEncoder(tower.config).eval()
    source.load_state_dict(tower.state_dict())
    views = torch.randn(2, 3, 128, 128)
    assert_close(tower(views), source(views).last_hidden_state)


@torch.no_grad()
def test_necks_are_parts_of_the_whole_one() -> None:
    full, short, none = sam(), sam(neck="short"), sam(neck="none")
    missing, unexpected = short.load_state_dict(full.state_dict(), strict=False)
    assert (missing, sorted(unexpected)) == (
        [],
        ["neck.conv2.weight", "neck.layer_norm2.bias", "neck.layer_norm2.weight"],
    )
    none.load_state_dict(full.state_dict(), strict=False)
    views = torch.randn(2, 3, 128, 128)
    features = none(views)
    assert features.shape == (2, 20, 8, 8)
    halfway = full.neck.layer_norm1(full.neck.conv1(features))
    assert_close(short(views), halfway)
    assert_close(full(views), full.neck.layer_norm2(full.neck.conv2(halfway)))


@torch.no_grad()
def test_unshuffle_puts_cells_into_channels_channel_slowest() -> None:
    plain, tower = sam(neck="short"), sam(neck="short", unshuffle=2)
    tower.load_state_dict(plain.state_dict())
    views = torch.randn(1, 3, 128, 128)
    cells, found = plain(views)[0], tower(views)[0]
    assert SamTower.stage_shape(tower.config, 1, 128) == (36, 4) == found.shape[:2]
    for channel, dy, dx, row, col in ((0, 0, 1, 2, 3), (7, 1, 0, 1, 0), (8, 1, 1, 3, 3)):
        assert found[channel * 4 + dy * 2 + dx, row, col] == cells[channel, 2 * row + dy, 2 * col + dx]


def test_gradient_reaches_every_weight_and_bfloat16_runs() -> None:
    tower = sam(neck="short")
    views = torch.randn(1, 3, 128, 128)
    tower(views).square().mean().backward()
    assert [key for key, p in tower.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert tower.bfloat16()(views).dtype == torch.bfloat16


def test_attention_that_sam_lacks_becomes_sdpa() -> None:
    tower: Any = build_high_res_tower(tower_config(high_res("sam_vision_model")), 1, "flash_attention_2")
    assert tower.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("options", "tile", "message"),
    [
        ({"neck": "long"}, 128, r"`tower_options.neck` must be one of \['full', 'short', 'none'\]; got 'long'"),
        ({"unshuffle": 0}, 128, r"`tower_options.unshuffle` must be at least 1; got 0"),
        ({"unshuffle": 3}, 128, r"'sam_vision_model' encodes views in cells of 48 pixels; 128 pixels are not whole"),
        ({"resize": "nearest"}, 128, r"`tower_options.resize` must be one of .*; got 'nearest'"),
        ({}, 96, r"'sam_vision_model' encodes views of its `image_size`, 128 pixels; high-res views have 96"),
        ({"short": True}, 128, r"Tower 'sam_vision_model' has no option \['short'\]"),
    ],
)
def test_tower_names_what_is_wrong(options: dict[str, Any], tile: int, message: str) -> None:
    config = tower_config(high_res("sam_vision_model", tower_options=options))
    with pytest.raises(ValueError, match=message) as raised:
        SamTower.stage_shape(config, 1, tile)
    assert isinstance(raised.value, TowerError) or "must be one of" in str(raised.value)
