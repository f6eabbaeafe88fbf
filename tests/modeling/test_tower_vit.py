# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The ViT towers against transformers' own models, weight for weight, and their options."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import AutoModel, CLIPVisionModel, SiglipVisionModel
from transformers.models.internvl.modeling_internvl import InternVLVisionModel

from fila.modeling.tower_options import TowerError
from fila.modeling.towers import LOW_RES_TOWERS, build_high_res_tower, build_low_res_tower
from tests.helpers import assert_close, randomise
from tests.modeling.tiny_towers import LOW_RES, high_res, low_res, tower_config

SOURCES = {
    "clip_vision_model": CLIPVisionModel,
    "internvl_vision": InternVLVisionModel,
    "siglip_vision_model": SiglipVisionModel,
}
UNREAD = ("head.", "post_layernorm.", "embeddings.mask_token")
each_tower = pytest.mark.parametrize("name", LOW_RES)
# EVA2-CLIP is not in transformers; `test_tower_eva2_clip.py` has a twin of it.
each_tower_of_transformers = pytest.mark.parametrize("name", [name for name in LOW_RES if name != "eva2_clip"])


def loaded(name: str, folder: Path, num_layers: int = 3, **changes: Any) -> tuple[Any, Any]:
    """A tower with the weights of transformers' model, and that model.

    Through a file: DINOv2's modules have other names than its checkpoints in newer transformers.
    """
    config = tower_config(low_res(name, **changes))
    source = (SOURCES[name](config) if name in SOURCES else AutoModel.from_config(config)).eval()
    randomise(source)
    source.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    if "vision_model.pre_layrnorm.weight" in weights:
        weights = {key.removeprefix("vision_model."): value for key, value in weights.items()}
    tower = build_low_res_tower(config, num_layers).eval()
    missing, unexpected = tower.load_state_dict(weights, strict=False)
    assert missing == []
    kept = [f"encoder.layers.{i}." for i in range(num_layers, 3)] + [
        f"encoder.layer.{i}." for i in range(num_layers, 3)
    ]
    norm = () if num_layers == 3 else ("layernorm.",)
    assert [key for key in unexpected if not key.startswith((*UNREAD, *kept, *norm))] == []
    return tower, source


def features(tower: Any, pixels: torch.Tensor, patch_grids: torch.Tensor | None = None) -> torch.Tensor:
    hidden = tower.embed(pixels, patch_grids)
    mask = tower.attention_mask(hidden, patch_grids)
    result: torch.Tensor = tower.finish(tower.run_layers(hidden, 0, tower.num_layers, mask))
    return result


@pytest.mark.parametrize("size", [(28, 28), (35, 21)], ids=str)
@each_tower_of_transformers
@torch.no_grad()
def test_tower_equals_transformers(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    tower, source = loaded(name, tmp_path)
    pixels = torch.randn(2, 3, *size)
    interpolate = {"interpolate_pos_encoding": True} if name in ("clip_vision_model", "siglip_vision_model") else {}
    output = source(pixels, output_hidden_states=True, **interpolate)
    expected = output.hidden_states[-1] if name == "clip_vision_model" else output.last_hidden_state
    assert expected.shape[1] == tower.num_prefix_tokens + size[0] * size[1] // 49
    assert_close(features(tower, pixels), expected)  # 0 but for the order of sums


@each_tower_of_transformers
@torch.no_grad()
def test_fewer_layers_give_the_hidden_state_before_the_norm(name: str, tmp_path: Path) -> None:
    tower, source = loaded(name, tmp_path, num_layers=2)
    pixels = torch.randn(2, 3, 28, 28)
    expected = source(pixels, output_hidden_states=True).hidden_states[2]
    assert_close(features(tower, pixels), expected)


@each_tower
@torch.no_grad()
def test_dropped_prefix_leaves_patches_with_their_positions(name: str) -> None:
    kept = build_low_res_tower(tower_config(low_res(name)), 3).eval()
    randomise(kept)
    dropped = build_low_res_tower(tower_config(low_res(name, tower_options={"prefix": "drop"})), 3).eval()
    missing, unexpected = dropped.load_state_dict(kept.state_dict(), strict=False)
    assert missing == []
    assert all(key.endswith(("class_embedding", "cls_token", "register_tokens")) for key in unexpected)
    assert dropped.num_prefix_tokens == 0
    pixels = torch.randn(2, 3, 28, 35)
    assert_close(dropped.embed(pixels), kept.embed(pixels)[:, kept.num_prefix_tokens :])


@pytest.mark.parametrize("rule", ["bicubic", "bicubic_antialias"])
@torch.no_grad()
def test_position_rule_resamples_the_table(rule: str) -> None:
    tower = build_low_res_tower(tower_config(low_res("siglip_vision_model", tower_options={"positions": rule})), 3)
    table = tower.embeddings.position_embedding.weight.T.reshape(1, 20, 4, 4)
    pixels = torch.randn(1, 3, 14, 35)
    patches = tower.embeddings.patch_embedding(pixels)
    resampled = F.interpolate(table, (2, 5), mode="bicubic", antialias=rule == "bicubic_antialias")
    assert_close(tower.embed(pixels), (patches + resampled).flatten(2).transpose(1, 2))


@pytest.mark.parametrize("name", ["clip_vision_model", "dinov2_with_registers", "eva2_clip", "siglip_vision_model"])
@pytest.mark.parametrize("rule", ["bicubic", "buckets"])
@torch.no_grad()
def test_views_of_unequal_size_pass_as_if_alone(name: str, rule: str) -> None:
    tower = build_low_res_tower(tower_config(low_res(name, tower_options={"positions": rule})), 3).double().eval()
    randomise(tower)
    grids = torch.tensor([[3, 5], [1, 7], [4, 2]])
    packed = torch.zeros(3, 3, 7, 15 * 7, dtype=torch.float64)
    alone = []
    for row, (rows, cols) in zip(packed, grids.tolist(), strict=True):
        view = torch.randn(3, rows * 7, cols * 7, dtype=torch.float64)
        patches = view.unflatten(1, (rows, 7)).unflatten(3, (cols, 7)).permute(0, 2, 1, 3, 4)
        row[:, :, : rows * cols * 7] = patches.flatten(2)
        alone.append(features(tower, view[None])[0])
    together = features(tower, packed, grids)
    for found, expected in zip(together, alone, strict=True):
        assert_close(found[: len(expected)], expected, 1e-12)


def test_internvit_refuses_views_with_padding() -> None:
    tower = build_low_res_tower(tower_config(low_res("internvl_vision")), 3)
    hidden = torch.randn(2, 7, 20)
    assert tower.attention_mask(hidden, torch.tensor([[2, 3], [3, 2]])) is None
    with pytest.raises(TowerError, match=r"'internvl_vision' take no mask.+\[4, 6\]"):
        tower.attention_mask(hidden, torch.tensor([[2, 3], [2, 2]]))


@each_tower
def test_as_high_res_tower_it_gives_one_map_of_the_layer_that_is_named(name: str) -> None:
    options = {"input_size": 42, "layer": -2, "resize": "edges"}
    config = tower_config(high_res(name, tower_options=options))
    tower: Any = build_high_res_tower(config, 1).eval()
    randomise(tower)
    low = build_low_res_tower(tower_config(low_res(name)), 2).eval()
    low.load_state_dict(tower.state_dict())
    views = torch.randn(2, 3, 30, 30)
    resized = F.interpolate(views, (42, 42), mode="bilinear", align_corners=False)
    expected = features(low, resized)[:, low.num_prefix_tokens :]
    found = tower(views)
    assert LOW_RES_TOWERS[name].stage_shape(config, 1, 30) == (20, 6)
    assert found.shape == (2, 20, 6, 6)
    assert_close(found.flatten(2).transpose(1, 2), expected)
    found.square().mean().backward()
    assert [key for key, p in tower.named_parameters() if p.grad is None or not p.grad.any()] == []


@each_tower
@torch.no_grad()
def test_tower_runs_in_bfloat16(name: str) -> None:
    tower = build_low_res_tower(tower_config(low_res(name)), 3).bfloat16()
    found = features(tower, torch.randn(2, 3, 35, 28))
    assert found.dtype == torch.bfloat16
    assert found.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"position": "bicubic"}, r"Tower 'dinov2' has no option \['position'\] in `tower_options`; it accepts"),
        ({"positions": "bilinear"}, r"`tower_options.positions` must be one of .*'buckets'.*; got 'bilinear'"),
        ({"prefix": "cut"}, r"`tower_options.prefix` must be one of \['keep', 'drop'\]; got 'cut'"),
        ({"norm": "yes"}, r"`tower_options.norm` must be true, false or null; got 'yes'"),
        ({"layer": 4}, r"`tower_options.layer` must name one of the 3 layers of the tower; got 4"),
    ],
)
def test_tower_names_a_wrong_option(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_high_res_tower(tower_config(high_res("dinov2", tower_options=options)), 1)


@each_tower
def test_input_embedding_is_a_module_that_is_called(name: str) -> None:
    """PEFT and TRL hang a hook on it, so that checkpointed layers of a frozen tower pass gradients."""
    tower = build_low_res_tower(tower_config(low_res(name)), 3)
    called: list[Any] = []
    tower.get_input_embeddings().register_forward_hook(lambda *args: called.append(args))
    tower.embed(torch.randn(1, 3, 28, 28))
    assert len(called) == 1


def test_norm_can_be_forced_and_left_out() -> None:
    for norm, layers, expected in ((True, 2, True), (None, 2, False), (None, 3, True), (False, 3, False)):
        config = tower_config(low_res("siglip_vision_model", tower_options={"norm": norm}))
        assert (build_low_res_tower(config, layers).final_norm is not None) == expected
