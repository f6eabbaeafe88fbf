# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fila.conversion.key_rules import Move, apply_rules, export_plan
from fila.conversion.pretrained_part import Part, open_part
from fila.conversion.processor_files import normalization
from fila.conversion.rules_convnext import PRESETS, convnext_config, convnext_rules, is_convnext, preset_config
from fila.conversion.shared_templates import HIGH
from fila.modeling.tower_convnext import ConvNextTower
from tests.conversion.parts import CONVNEXT_SIZES, edit_json, to_timm, write_convnext, write_part
from tests.helpers import assert_close

ROOT = Path(__file__).parents[2]

TIMM_KINDS = ["timm", "timm-conv-mlp", "timm-v2", "eagle", "open_clip"]
KINDS = ["ConvNextModel", "ConvNextForImageClassification", "ConvNextV2Model", *TIMM_KINDS]


@pytest.mark.parametrize("kind", KINDS)
def test_convnext_rules_reach_the_towers_names_and_values(tmp_path: Path, kind: str) -> None:
    trunk = write_convnext(tmp_path, kind)
    part = open_part(tmp_path)
    plan = apply_rules(part.tensors, convnext_rules(part, convnext_config(part), num_stages=4), name="convnext")
    expected = {name: tensor for name, tensor in trunk.state_dict().items() if not name.startswith("layernorm.")}
    assert {move.target for move in plan.moves} == {HIGH + name for name in expected}
    for move in plan.moves:
        assert torch.equal(_value(part, move), expected[move.target.removeprefix(HIGH)])


def test_eagle_names_match_llava_hr(tmp_path: Path) -> None:
    """Weights, names and output recorded from LLaVA-HR's copy of timm; the layer scale is called `weight` there."""
    golden = load_file(ROOT / "tests" / "golden" / "llava_hr_convnext.safetensors")
    state = {key.removeprefix("sd."): tensor for key, tensor in golden.items() if key.startswith("sd.")}
    write_part(tmp_path, {"architecture": "convnext_tiny"}, state)
    part = open_part(tmp_path)
    config = convnext_config(part)
    tower = ConvNextTower(config, 4).eval()
    plan = apply_rules(part.tensors, convnext_rules(part, config, num_stages=4), name="llava-hr")
    values = {move.target.removeprefix(HIGH): _value(part, move) for move in plan.moves}
    tower.load_state_dict(values)
    pixels = torch.randn(1, 3, 384, 384, generator=torch.Generator().manual_seed(384))
    with torch.no_grad():
        # Measured 2.4e-6 on values up to 5.3.
        assert_close(tower.run_stages(tower.embed(pixels), 0, 4), golden["last"], 2e-5)


def _value(part: Part, move: Move) -> torch.Tensor:
    stored = part.tensors[move.source].load()
    return stored if move.forward is None else move.forward(stored)


@pytest.mark.parametrize("kind", TIMM_KINDS)
def test_timm_rules_can_be_undone(tmp_path: Path, kind: str) -> None:
    write_convnext(tmp_path, kind)
    part = open_part(tmp_path)
    rules = convnext_rules(part, convnext_config(part), num_stages=4)
    plan = apply_rules(part.tensors, rules, name="convnext")
    ours = {move.target: _value(part, move) for move in plan.moves}
    origins = export_plan(ours, rules, name="convnext")
    assert set(origins) == set(part.tensors) - set(plan.dropped)
    for key, origin in origins.items():
        assert torch.equal(origin.function([ours[name] for name in origin.sources]), part.tensors[key].load())


@pytest.mark.parametrize("kind", ["ConvNextModel", "timm"])
def test_convnext_rules_drop_stages_that_are_not_read(tmp_path: Path, kind: str) -> None:
    write_convnext(tmp_path, kind)
    part = open_part(tmp_path)
    plan = apply_rules(part.tensors, convnext_rules(part, convnext_config(part), num_stages=3), name="convnext")
    assert not [move for move in plan.moves if ".stages.3." in move.target]
    assert "a stage that the fusion does not read" in plan.dropped.values()


@pytest.mark.parametrize("kind", TIMM_KINDS)
def test_convnext_config_is_read_off_timm_weights(tmp_path: Path, kind: str) -> None:
    write_convnext(tmp_path, kind)
    config = convnext_config(open_part(tmp_path))
    assert config.model_type == ("convnextv2" if kind == "timm-v2" else "convnext")
    assert (list(config.hidden_sizes), list(config.depths)) == (
        CONVNEXT_SIZES["hidden_sizes"],
        CONVNEXT_SIZES["depths"],
    )
    assert config.patch_size == 4


def test_convnext_config_sees_a_missing_layer_scale(tmp_path: Path) -> None:
    write_convnext(tmp_path, "timm")
    part = open_part(tmp_path)
    without = {key: tensor for key, tensor in part.tensors.items() if not key.endswith(".gamma")}
    assert convnext_config(Part("x", tmp_path, {}, without)).layer_scale_init_value == 0.0
    assert convnext_config(part).layer_scale_init_value > 0


@pytest.mark.parametrize(
    "config",
    [
        {"architecture": "convnext_xxlarge"},
        {"architecture": "convnext_tiny", "model_args": {"norm_eps": 1e-5}},
        {"model_cfg": {"vision_cfg": {"timm_model_name": "convnext_xxlarge"}}},
    ],
)
def test_convnext_config_keeps_another_norm_epsilon(tmp_path: Path, config: dict[str, object]) -> None:
    write_convnext(tmp_path, "timm")
    (tmp_path / "config.json").write_text("{}")
    edit_json(tmp_path / "config.json", **config)
    assert convnext_config(open_part(tmp_path)).tower_options == {"norm_eps": 1e-5}


def test_other_models_are_no_convnext(tmp_path: Path) -> None:
    assert not is_convnext(Part("demo", tmp_path, {"model_type": "resnet"}))


def test_timm_rules_leave_an_overlapping_stem_over(tmp_path: Path) -> None:
    write_convnext(tmp_path, "timm")
    part = open_part(tmp_path)
    tensors = {**part.tensors, "stem.2.weight": part.tensors["stem.1.weight"]}
    with pytest.raises(RuntimeError, match=r"1 keys of x were not consumed, e\.g\. 'stem\.2\.weight'"):
        apply_rules(tensors, convnext_rules(part, convnext_config(part), num_stages=4), name="x")


def test_normalization_of_timm_and_of_transformers(tmp_path: Path) -> None:
    write_convnext(tmp_path, "timm")
    part = open_part(tmp_path)
    config = convnext_config(part)
    assert normalization(part, config) == {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.7, 0.7, 0.7]}')
    assert normalization(part, config) == {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.7, 0.7, 0.7]}
    assert normalization(Part("x", tmp_path / "none", {}), config) == {}


def test_normalization_of_a_part_that_was_saved_with_its_processor(tmp_path: Path) -> None:
    write_convnext(tmp_path, "timm")
    part = open_part(tmp_path)
    images = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.7, 0.7, 0.7]}
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": images, "processor_class": "X"}))
    assert normalization(part, convnext_config(part)) == images


def test_preset_config_has_every_size() -> None:
    for name, sizes in PRESETS.items():
        assert list(preset_config(name).depths) == sizes["depths"]


def test_preset_config_rejects_an_unknown_size() -> None:
    with pytest.raises(ValueError, match=r"`high_res_init` must be a folder .* one of \['convnext-atto'.*got 'tiny'"):
        preset_config("tiny")


def test_to_timm_makes_timms_shapes() -> None:
    state = to_timm({"encoder.stages.0.layers.0.pwconv1.weight": torch.zeros(3, 2)}, conv_mlp=True, scale="gamma")
    assert state["stages.0.blocks.0.mlp.fc1.weight"].shape == (3, 2, 1, 1)
