# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Checkpoints of CogVLM2-Video in their own layout.

Keys and shapes: the tensor list of cogvlm2-llama3-caption, which has the same classes, in a mirror of it
(fetchwiki/THUDM-cogvlm2-llama3-caption), and csbhr/Vivid-VR @ 38c736a, a copy of its `modeling_cogvlm.py`.

The language model is LLaMA 3 under other names, with stacked queries, keys and values. CogVLM2 for images has visual
experts: separate weights for image tokens in every layer. No language model of transformers has these, so such a
checkpoint is refused.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedConfig

from fila.modeling.configuration_eva2_clip import Eva2ClipConfig
from fila.modeling.configuration_fila import FilaConfig

from .assemble import declared
from .key_rules import Drop, KeyTemplate, Pair, Stack
from .shared_templates import CONNECTOR, LOW, TEXT, chunked, llama_drops, plain, stacked
from .source_system import Settings, SourceLayout, SourceSystem, text_fields

_VISION = "model.vision."
# Our names to the source's, for settings that its config may hold.
_VISION_FIELDS = {
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_hidden_layers": "num_hidden_layers",
    "num_attention_heads": "num_heads",
    "num_channels": "in_channels",
    "image_size": "image_size",
    "patch_size": "patch_size",
    "hidden_act": "hidden_act",
    "layer_norm_eps": "layer_norm_eps",
}
# The source's code, not its config, holds the base of the rotary positions.
_ROPE_THETA = 500000.0


def _first_row(tensor: torch.Tensor) -> torch.Tensor:
    return tensor[0]


def _as_row(tensor: torch.Tensor) -> torch.Tensor:
    return tensor[None]


def eva2_clip(prefix: str = _VISION, target: str = LOW) -> list[KeyTemplate]:
    """Return the rules for the tower."""
    layer, ours = f"{prefix}transformer.layers.{{i}}.", f"{target}encoder.layers.{{i}}."
    parts = tuple(f"{ours}self_attn.{part}_proj.{{leaf}}" for part in "qkv")
    return [
        Pair(f"{prefix}patch_embedding.cls_embedding", f"{target}embeddings.class_embedding", _first_row, _as_row),
        Pair(f"{prefix}patch_embedding.proj.{{leaf}}", f"{target}embeddings.patch_embedding.{{leaf}}"),
        Pair(f"{prefix}patch_embedding.position_embedding.weight", f"{target}embeddings.position_embedding.weight"),
        Stack(f"{layer}attention.query_key_value.{{leaf}}", parts, chunked, stacked),
        Pair(f"{layer}attention.dense.{{leaf}}", f"{ours}self_attn.out_proj.{{leaf}}"),
        Pair(f"{layer}input_layernorm.{{leaf}}", f"{ours}layer_norm1.{{leaf}}"),
        Pair(f"{layer}post_attention_layernorm.{{leaf}}", f"{ours}layer_norm2.{{leaf}}"),
        Pair(f"{layer}mlp.{{rest}}", f"{ours}mlp.{{rest}}"),
    ]


def language_model(text_config: PreTrainedConfig) -> list[KeyTemplate]:
    """Return the rules for LLaMA 3 with queries, keys and values in one tensor, one below the other."""
    heads, groups = text_config.num_attention_heads, text_config.num_key_value_heads
    width = text_config.hidden_size // heads
    layer, ours = "model.layers.{i}.", f"{TEXT}layers.{{i}}."

    def split(tensor: torch.Tensor) -> Sequence[torch.Tensor]:
        return tensor.split([heads * width, groups * width, groups * width])

    return [
        Pair("model.embed_tokens.weight", f"{TEXT}embed_tokens.weight"),
        Stack(
            f"{layer}self_attn.language_expert_query_key_value.weight",
            tuple(f"{ours}self_attn.{part}_proj.weight" for part in "qkv"),
            split,
            stacked,
        ),
        Pair(f"{layer}self_attn.language_expert_dense.weight", f"{ours}self_attn.o_proj.weight"),
        Pair(f"{layer}mlp.language_mlp.{{rest}}", f"{ours}mlp.{{rest}}"),
        Pair(f"{layer}input_layernorm.weight", f"{ours}input_layernorm.weight"),
        Pair(f"{layer}post_attention_layernorm.weight", f"{ours}post_attention_layernorm.weight"),
        Pair("model.norm.weight", f"{TEXT}norm.weight"),
        Pair("lm_head.weight", "lm_head.weight"),
    ]


def _templates(config: FilaConfig) -> Sequence[KeyTemplate]:
    connector = plain(_VISION, CONNECTOR, "conv.{leaf}", "linear_proj.{rest}", "boi", "eoi")
    return [*eva2_clip(), *connector, *language_model(config.text_config)]


def _drops(config: FilaConfig) -> Sequence[Drop]:
    return llama_drops()


def _settings(source: Mapping[str, Any]) -> Settings:
    text = {"rope_theta": _ROPE_THETA, **source}
    if "num_multi_query_heads" in source:
        text["num_key_value_heads"] = source["num_multi_query_heads"]
    low_res = None
    if (vision := source.get("vision_config")) is not None:
        given = {ours: vision[theirs] for ours, theirs in _VISION_FIELDS.items() if theirs in vision}
        low_res = declared(Eva2ClipConfig(**given))
    return Settings(low_res=low_res, text=text_fields(text, "llama"))


COGVLM2_VIDEO = SourceSystem(
    name="cogvlm2-video",
    recipes=("cogvlm2-video", "cogvlm2-video-base"),
    layouts=(
        SourceLayout(
            "CogVLM2-Video's own", "model.layers.0.self_attn.language_expert_dense.weight", _templates, _drops
        ),
    ),
    settings=_settings,
    refused={
        f"model.layers.{{i}}.{expert}": "it is a CogVLM or CogVLM2 for images, whose visual experts are weights of "
        "their own for image tokens in every layer, which no language model of transformers has. CogVLM2-Video has "
        "none"
        for expert in ("self_attn.vision_expert_{rest}", "mlp.vision_mlp.{rest}")
    },
)

__all__ = ["COGVLM2_VIDEO", "eva2_clip", "language_model"]
