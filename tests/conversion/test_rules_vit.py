# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
from pathlib import Path
from typing import Any

import pytest
import torch

from fila.conversion.key_rules import apply_rules
from fila.conversion.pretrained_part import open_part
from fila.conversion.rules_vit import LAYOUTS, vit_config, vit_rules, vit_types
from fila.conversion.shared_templates import LOW
from fila.modeling.towers import HIGH_RES_TOWERS, LOW_RES_TOWERS, build_high_res_tower, build_low_res_tower
from tests.conversion.parts import CLIP_SIZES, write_clip
from tests.conversion.tiny_vits import VITS, write_vit
from tests.helpers import assert_close

KINDS = ["CLIPModel", "CLIPVisionModel", "CLIPVisionModelWithProjection", "prefixed"]
UNREAD = "a layer behind the one that the connector reads"


def clip_rules(folder: Path, num_layers: int) -> list[Any]:
    return vit_rules(vit_config(open_part(folder)), LOW, num_layers=num_layers)


@pytest.mark.parametrize("kind", KINDS)
def test_vit_rules_reach_the_towers_names(tmp_path: Path, kind: str) -> None:
    tower = write_clip(tmp_path, kind)
    plan = apply_rules(open_part(tmp_path).tensors, clip_rules(tmp_path, 4), name="clip")
    unused = ("encoder.layers.4.", "post_layernorm.")
    expected = {LOW + name for name in tower.state_dict() if not name.startswith(unused)}
    assert {move.target for move in plan.moves} == expected
    assert UNREAD in plan.dropped.values()


def test_vit_rules_keep_every_layer_if_the_last_is_read(tmp_path: Path) -> None:
    write_clip(tmp_path)
    plan = apply_rules(open_part(tmp_path).tensors, clip_rules(tmp_path, 5), name="clip")
    assert set(plan.dropped.values()) == {"it norms the pooled CLS token, which nothing reads"}


@pytest.mark.parametrize("kind", ["CLIPModel", "CLIPVisionModel"])
def test_vit_config_reads_the_vision_side(tmp_path: Path, kind: str) -> None:
    write_clip(tmp_path, kind)
    config = vit_config(open_part(tmp_path))
    assert config.model_type == "clip_vision_model"
    assert (config.hidden_size, config.num_hidden_layers) == (CLIP_SIZES["hidden_size"], 5)


def test_a_tower_without_cls_leaves_it_behind(tmp_path: Path) -> None:
    write_clip(tmp_path)
    part = open_part(tmp_path)
    config = vit_config(part)
    config.tower_options = {"prefix": "drop"}
    plan = apply_rules(part.tensors, vit_rules(config, "", num_layers=5), name="clip")
    assert plan.dropped["embeddings.class_embedding"] == "the tower drops it before it is read"
    tower = build_low_res_tower(config, 5)
    assert {move.target for move in plan.moves} == set(tower.state_dict())


def loaded(folder: Path, num_layers: int | None = None) -> Any:
    """The tower of a checkpoint, filled by the rules; every tensor of it must be."""
    part = open_part(folder)
    config = vit_config(part)
    layers = num_layers or config.num_hidden_layers
    low_res = config.model_type in LOW_RES_TOWERS
    tower: Any = build_low_res_tower(config, layers) if low_res else build_high_res_tower(config, 1)
    plan = apply_rules(part.tensors, vit_rules(config, "", num_layers=layers), name="vit")
    tower.load_state_dict({move.target: part.tensors[move.source].load() for move in plan.moves})
    return tower.eval()


@pytest.mark.parametrize("name", VITS)
@torch.no_grad()
def test_filled_tower_equals_transformers(tmp_path: Path, name: str) -> None:
    """Weights by their names, whole models included; outputs of the towers that both take pixels."""
    source, tower = write_vit(tmp_path, name), loaded(tmp_path)
    if tower.config.model_type in LOW_RES_TOWERS:
        pixels = torch.randn(2, 3, 28, 28)
        encoded = tower.finish(tower.run_layers(tower.embed(pixels), 0, 3))
        # Measured 5e-7.
        assert_close(encoded, source(pixels).last_hidden_state)
    else:
        held = source.state_dict()
        assert set(tower.state_dict()) == set(held)
        assert all(torch.equal(value, held[key]) for key, value in tower.state_dict().items())


@pytest.mark.parametrize("name", ["SiglipModel", "Dinov2WithRegistersModel", "InternVLVisionModel"])
def test_layers_and_norm_behind_the_one_that_is_read_stay_behind(tmp_path: Path, name: str) -> None:
    write_vit(tmp_path, name)
    assert loaded(tmp_path, 2).num_layers == 2


def test_every_tower_of_transformers_has_a_layout() -> None:
    assert set(LAYOUTS) | {"convnext", "convnextv2", "eva02", "eva2_clip"} == set(HIGH_RES_TOWERS)
    low_res = {"clip_vision_model", "dinov2", "dinov2_with_registers", "internvl_vision", "siglip_vision_model"}
    assert vit_types(LOW_RES_TOWERS) == sorted([*low_res, "clip", "internvl", "siglip"])
