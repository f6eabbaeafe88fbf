# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Checkpoints of DeepSeek-VL hybrid (7B): DeepSeek's own layout, and transformers'.

Key names: transformers 5.23, `models/deepseek_vl_hybrid` and its conversion script.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from fila.modeling.configuration_fila import FilaConfig

from .key_rules import Drop, KeyTemplate, Pair, Stack
from .shared_templates import CONNECTOR, CONSTANT, FUSION, HIGH, LOW, TEXT, chunked, llama, llama_drops, plain, stacked
from .source_system import Settings, SourceLayout, SourceSystem, sub_config

_SAM = "vision_model.vision_tower_high.vision_tower."
_SIGLIP = "vision_model.vision_tower_low.vision_tower."
_NECK = {"0": "conv1", "1": "layer_norm1", "2": "conv2", "3": "layer_norm2"}
_UNREAD = "the pooling behind the tower is not used"


def _as_table(tensor: torch.Tensor) -> torch.Tensor:
    return tensor[0]


def _as_parameter(tensor: torch.Tensor) -> torch.Tensor:
    return tensor[None]


def _own(config: FilaConfig) -> Sequence[KeyTemplate]:
    block, layer = f"{_SAM}blocks.{{i}}.", f"{HIGH}layers.{{i}}."
    low, ours = f"{_SIGLIP}blocks.{{i}}.", f"{LOW}encoder.layers.{{i}}."
    necks = [
        Pair(f"{_SAM}{theirs}.{number}.{{leaf}}", f"{HIGH}{mine}.{name}.{{leaf}}")
        for theirs, mine in (("neck", "neck"), ("neck_hd", "tap_neck"))
        for number, name in _NECK.items()
    ]
    projections = tuple(f"{ours}self_attn.{part}_proj.{{leaf}}" for part in "qkv")
    return [
        Pair(f"{_SAM}pos_embed", f"{HIGH}pos_embed"),
        Pair(f"{_SAM}patch_embed.proj.{{leaf}}", f"{HIGH}patch_embed.projection.{{leaf}}"),
        *[Pair(f"{block}norm{number}.{{leaf}}", f"{layer}layer_norm{number}.{{leaf}}") for number in "12"],
        Pair(f"{block}attn.{{rest}}", f"{layer}attn.{{rest}}"),
        Pair(f"{block}mlp.{{rest}}", f"{layer}mlp.{{rest}}"),
        *necks,
        Pair(f"{_SAM}downsamples.{{i}}.{{leaf}}", f"{FUSION}convs.{{i}}.{{leaf}}"),
        Pair(f"{_SAM}hd_alpha_downsamples", f"{FUSION}alpha"),
        Pair(f"{_SIGLIP}pos_embed", f"{LOW}embeddings.position_embedding.weight", _as_table, _as_parameter),
        Pair(f"{_SIGLIP}patch_embed.proj.{{leaf}}", f"{LOW}embeddings.patch_embedding.{{leaf}}"),
        *[Pair(f"{low}norm{number}.{{leaf}}", f"{ours}layer_norm{number}.{{leaf}}") for number in "12"],
        Stack(f"{low}attn.qkv.{{leaf}}", projections, chunked, stacked),
        Pair(f"{low}attn.proj.{{leaf}}", f"{ours}self_attn.out_proj.{{leaf}}"),
        Pair(f"{low}mlp.{{rest}}", f"{ours}mlp.{{rest}}"),
        Pair(f"{_SIGLIP}norm.{{leaf}}", f"{LOW}post_layernorm.{{leaf}}"),
        Pair("aligner.high_up_proj.{leaf}", f"{FUSION}high_proj.{{leaf}}"),
        Pair("aligner.low_up_proj.{leaf}", f"{FUSION}low_proj.{{leaf}}"),
        Pair("aligner.layers.1.{leaf}", f"{CONNECTOR}linear.{{leaf}}"),
        *llama("language_model."),
    ]


def _own_drops(config: FilaConfig) -> Sequence[Drop]:
    norms = [
        Drop(f"vision_model.{side}_layer_norm.{{leaf}}", "a norm that is not applied") for side in ("high", "low")
    ]
    pools = [Drop(f"{_SIGLIP}attn_pool.{{rest}}", _UNREAD)]
    return [*norms, *pools, *llama_drops("language_model.")]


def _in_tree(tower: str) -> Callable[[FilaConfig], Sequence[KeyTemplate]]:
    return lambda config: [
        *plain(tower, LOW, "embeddings.{rest}", "encoder.layers.{i}.{rest}", "post_layernorm.{leaf}"),
        Pair("model.high_res_vision_neck.{rest}", f"{HIGH}tap_neck.{{rest}}"),  # before the next, which fits it too
        Pair("model.high_res_vision_model.vision_encoder.{rest}", f"{HIGH}{{rest}}"),
        Pair("model.high_res_vision_proj.conv1.{leaf}", f"{FUSION}convs.0.{{leaf}}"),
        Pair("model.high_res_vision_proj.conv2.{leaf}", f"{FUSION}convs.1.{{leaf}}"),
        Pair("model.high_res_vision_alpha", f"{FUSION}alpha"),
        Pair("model.aligner.high_res_vision_proj.{leaf}", f"{FUSION}high_proj.{{leaf}}"),
        Pair("model.aligner.vision_proj.{leaf}", f"{FUSION}low_proj.{{leaf}}"),
        Pair("model.aligner.proj.{leaf}", f"{CONNECTOR}linear.{{leaf}}"),
        Pair("model.language_model.{rest}", f"{TEXT}{{rest}}"),
        Pair("lm_head.weight", "lm_head.weight"),
    ]


def _in_tree_layout(name: str, tower: str) -> SourceLayout:
    def drops(config: FilaConfig) -> Sequence[Drop]:
        return [
            Drop(f"{tower}embeddings.position_ids", CONSTANT),
            Drop(f"{tower}head.{{rest}}", _UNREAD),
            Drop("{rest}.rotary_emb.inv_freq", CONSTANT),
        ]

    return SourceLayout(name, f"{tower}embeddings.patch_embedding.weight", _in_tree(tower), drops)


def deepseek_vl_settings(source: Mapping[str, Any]) -> Settings:
    """Return the settings in the config of DeepSeek-VL hybrid, DeepSeek's or transformers'.

    Raises:
        ValueError: If it is another model of the family.
    """
    kind = source.get("model_type")
    vision = dict(source.get("vision_config") or {})
    if kind in ("deepseek_vl", "deepseek_vl_v2") or vision.get("cls", "HybridVisionTower") != "HybridVisionTower":
        raise ValueError(
            f"DeepSeek-VL hybrid alone can be imported, which has a SAM beside SigLIP; this is {kind!r} with the "
            f"vision tower {vision.get('cls', vision.get('model_type'))!r}. DeepSeek-VL 1.3B and DeepSeek-VL2 are "
            "other models."
        )
    if "high_res_vision_config" not in source:
        return Settings(text=sub_config(source.get("language_config"), "llama"))
    high = sub_config(source["high_res_vision_config"], "sam_vision_model") or {}
    high["tower_options"] = {"tap": high["global_attn_indexes"][0] + 1}
    return Settings(
        low_res=sub_config(source["vision_config"], "siglip_vision_model"),
        high_res=high,
        text=sub_config(source["text_config"], "llama"),
        config={"tie_word_embeddings": source.get("tie_word_embeddings", True)},
        image_processor={"canvas": {"type": "redrawn_square", "side": high["image_size"]}},
    )


DEEPSEEK_VL_HYBRID = SourceSystem(
    name="deepseek-vl-hybrid",
    recipes=("deepseek-vl-hybrid",),
    layouts=(
        _in_tree_layout("transformers' names", "model.vision_model."),
        _in_tree_layout("transformers' names of older conversions", "model.vision_model.vision_model."),
        SourceLayout("DeepSeek's own", f"{_SAM}hd_alpha_downsamples", _own, _own_drops),
    ),
    settings=deepseek_vl_settings,
)
