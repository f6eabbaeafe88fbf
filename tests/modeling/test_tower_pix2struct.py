# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Pix2Struct's encoder, with its processor's work done on tensors, against transformers' own."""

from typing import Any

import pytest
import torch
from transformers import Pix2StructVisionModel
from transformers.models.pix2struct.image_processing_pil_pix2struct import Pix2StructImageProcessorPil

from fila.modeling.tower_options import TowerError
from fila.modeling.tower_pix2struct import CLIP_MEAN, CLIP_STD, Pix2StructTower, flattened_patches
from fila.modeling.towers import build_high_res_tower
from tests.helpers import assert_close, randomise
from tests.modeling.tiny_towers import high_res, tower_config


def pix2struct(**options: Any) -> Any:
    config = tower_config(high_res("pix2struct_vision_model", tower_options={"input_size": 80, **options}))
    tower: Any = build_high_res_tower(config, 1).eval()
    randomise(tower)
    return tower


@torch.no_grad()
def test_tower_equals_transformers_model_and_processor() -> None:
    tower = pix2struct()
    source = Pix2StructVisionModel(tower.config).eval()
    source.load_state_dict(tower.state_dict())
    image = torch.randint(0, 256, (3, 96, 96), generator=torch.Generator().manual_seed(0)).float()
    processor = Pix2StructImageProcessorPil(max_patches=27, is_vqa=False)  # 5 x 5 and two to fill the sequence
    inputs = processor(images=image.numpy(), return_tensors="pt")
    assert inputs["flattened_patches"].shape == (1, 27, 2 + 768)
    expected = source(**inputs).last_hidden_state[:, :25]
    mean, std = torch.tensor(CLIP_MEAN)[:, None, None], torch.tensor(CLIP_STD)[:, None, None]
    found = tower(((image / 255 - mean) / std)[None])
    assert Pix2StructTower.stage_shape(tower.config, 1, 96) == (12, 5) == found.shape[1:3]
    # that processor divides by n, ours by n - 1, as transformers' faster one: 1.8e-5 of the deviation
    assert_close(found.flatten(2).transpose(1, 2), expected, 1e-3)


def test_patches_have_their_places_and_channels_last() -> None:
    views = torch.arange(2 * 3 * 4 * 4).reshape(2, 3, 4, 4).float()
    patches = flattened_patches(views, 2)
    assert patches.shape == (2, 4, 14)
    assert patches[0, :, :2].tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
    assert patches[1, 2, 2:].tolist() == views[1, :, 2:4, 0:2].permute(1, 2, 0).flatten().tolist()


def test_gradient_reaches_every_weight_and_bfloat16_runs() -> None:
    tower = pix2struct()
    views = torch.randn(2, 3, 96, 96)
    tower(views).square().mean().backward()
    assert [key for key, p in tower.named_parameters() if p.grad is None or not p.grad.any()] == []
    found = tower.bfloat16()(views)
    assert found.dtype == torch.bfloat16
    assert found.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": 8}, r"projects patches of 768 numbers; `patch_size` 8 .* with 3 channels gives 192"),
        ({"std": [1.0]}, r"projects patches of 768 numbers"),
        ({"input_size": 304}, r"'pix2struct_vision_model' takes at most 18 rows of patches; got 19"),
        ({"input_size": 90}, r"'pix2struct_vision_model' encodes views in cells of 16 pixels; 90 pixels are not"),
        ({"patches": 2048}, r"Tower 'pix2struct_vision_model' has no option \['patches'\]"),
    ],
)
def test_tower_names_what_is_wrong(options: dict[str, Any], message: str) -> None:
    config = tower_config(high_res("pix2struct_vision_model", tower_options=options))
    with pytest.raises(TowerError, match=message):
        Pix2StructTower.stage_shape(config, 1, 128)
