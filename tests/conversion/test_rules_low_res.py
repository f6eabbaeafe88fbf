# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
from pathlib import Path

import pytest

from fila.conversion.key_rules import apply_rules
from fila.conversion.part import Part, open_part
from fila.conversion.rules_low_res import TARGET, low_res_config, low_res_rules
from tests.conversion.parts import CLIP_SIZES, write_clip

KINDS = ["CLIPModel", "CLIPVisionModel", "CLIPVisionModelWithProjection", "prefixed"]


@pytest.mark.parametrize("kind", KINDS)
def test_low_res_rules_reach_the_towers_names(tmp_path: Path, kind: str) -> None:
    tower = write_clip(tmp_path, kind)
    part = open_part(tmp_path)
    plan = apply_rules(part.tensors, low_res_rules(low_res_config(part), num_layers=4), name="clip")
    unused = ("encoder.layers.4.", "post_layernorm.")
    expected = {TARGET + name for name in tower.state_dict() if not name.startswith(unused)}
    assert {move.target for move in plan.moves} == expected
    assert {"a layer behind the one that the connector reads"} <= set(plan.dropped.values())


def test_low_res_rules_keep_every_layer_if_the_last_is_read(tmp_path: Path) -> None:
    write_clip(tmp_path)
    part = open_part(tmp_path)
    plan = apply_rules(part.tensors, low_res_rules(low_res_config(part), num_layers=5), name="clip")
    assert set(plan.dropped.values()) == {"it norms the pooled CLS token, which nothing reads"}


@pytest.mark.parametrize("kind", ["CLIPModel", "CLIPVisionModel"])
def test_low_res_config_reads_the_vision_side(tmp_path: Path, kind: str) -> None:
    write_clip(tmp_path, kind)
    config = low_res_config(open_part(tmp_path))
    assert config.model_type == "clip_vision_model"
    assert (config.hidden_size, config.num_hidden_layers) == (CLIP_SIZES["hidden_size"], 5)


def test_low_res_config_rejects_another_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"low-res part demo has model_type 'bert'"):
        low_res_config(Part("demo", tmp_path, {"model_type": "bert"}))
