# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Checkpoints of DeepSeek-OCR and Unlimited-OCR, in their own layout and in transformers' `unlimited_ocr`.

Keys: transformers, `conversion_mapping.py`, "unlimited_ocr", read backwards. Encoder, projector, newline and separator
are imported. The language model is not: its config class is no causal language model of `AutoModel`, so another one of
the same width takes its place.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .key_rules import Drop, KeyTemplate, Pair, Stack
from .shared_templates import CONNECTOR, CONSTANT, HIGH, LOW, chunked, clip, plain, stacked
from .source_system import Settings, SourceLayout, SourceSystem, sub_config

Templates = Callable[[Any], Sequence[KeyTemplate]]

_TEXT = "the language model of DeepSeek-OCR, which another one replaces"
_UNUSED = "the map of SAM takes the place of the patch embedding"


def sam_model(prefix: str, target: str = HIGH) -> list[KeyTemplate]:
    """Return the rules for SAM in its own names, with the two convolutions behind the neck."""
    block, layer = f"{prefix}blocks.{{i}}.", f"{target}layers.{{i}}."
    necks = {"0.weight": "conv1.weight", "1.{leaf}": "layer_norm1.{leaf}"}
    necks |= {"2.weight": "conv2.weight", "3.{leaf}": "layer_norm2.{leaf}"}
    return [
        Pair(f"{prefix}pos_embed", f"{target}pos_embed"),
        Pair(f"{prefix}patch_embed.proj.{{leaf}}", f"{target}patch_embed.projection.{{leaf}}"),
        Pair(f"{block}norm1.{{leaf}}", f"{layer}layer_norm1.{{leaf}}"),
        Pair(f"{block}norm2.{{leaf}}", f"{layer}layer_norm2.{{leaf}}"),
        *plain(block, layer, "attn.{rest}", "mlp.{rest}"),
        *[Pair(f"{prefix}neck.{theirs}", f"{target}neck.{ours}") for theirs, ours in necks.items()],
        Pair(f"{prefix}net_2.weight", f"{target}downsample.0.weight"),
        Pair(f"{prefix}net_3.weight", f"{target}downsample.1.weight"),
    ]


def vision_model(prefix: str, target: str = LOW) -> list[KeyTemplate]:
    """Return the rules for CLIP with queries, keys and values in one tensor, one below the other."""
    layer, ours = f"{prefix}transformer.layers.{{i}}.", f"{target}encoder.layers.{{i}}."
    parts = tuple(f"{ours}self_attn.{part}_proj.{{leaf}}" for part in "qkv")
    return [
        *plain(prefix, target, "embeddings.class_embedding", "embeddings.position_embedding.weight"),
        Pair(f"{prefix}pre_layrnorm.{{leaf}}", f"{target}pre_layrnorm.{{leaf}}"),
        Stack(f"{layer}self_attn.qkv_proj.{{leaf}}", parts, chunked, stacked),
        *plain(layer, ours, "self_attn.out_proj.{leaf}", "layer_norm1.{leaf}", "layer_norm2.{leaf}", "mlp.{rest}"),
    ]


def _own(base: str) -> Templates:
    return lambda config: [
        *sam_model(f"{base}sam_model."),
        *vision_model(f"{base}vision_model."),
        Pair(f"{base}projector.layers.{{leaf}}", f"{CONNECTOR}linear.{{leaf}}"),
        Pair(f"{base}image_newline", "model.image_newline"),
        Pair(f"{base}view_seperator", "model.view_separator"),  # the source's spelling
    ]


def _in_tree(base: str) -> Templates:
    tower = f"{base}vision_tower."
    sam = ("pos_embed", "patch_embed.{rest}", "layers.{i}.{rest}", "neck.{rest}")
    return lambda config: [
        *plain(f"{tower}sam_encoder.", HIGH, *sam),
        Pair(f"{tower}sam_encoder.proj.conv1.weight", f"{HIGH}downsample.0.weight"),
        Pair(f"{tower}sam_encoder.proj.conv2.weight", f"{HIGH}downsample.1.weight"),
        *clip(f"{tower}vision_encoder."),
        Pair(f"{base}multi_modal_projector.{{leaf}}", f"{CONNECTOR}linear.{{leaf}}"),
        Pair(f"{base}image_newline", "model.image_newline"),
        Pair(f"{base}view_separator", "model.view_separator"),
    ]


def _drops(base: str, vision: str, *text: str) -> Callable[[Any], Sequence[Drop]]:
    unread = [
        Drop(f"{base}{vision}embeddings.patch_embedding.{{leaf}}", _UNUSED),
        Drop(f"{base}{vision}embeddings.position_ids", CONSTANT),
    ]
    return lambda config: [*unread, *[Drop(key, _TEXT) for key in (*text, "lm_head.weight")]]


def deepseek_ocr_settings(source: Mapping[str, Any]) -> Settings:
    """Return the towers' settings of transformers' config; DeepSeek's own has the recipe's sizes."""
    vision = source.get("vision_config") or {}
    sam, clip_config = vision.get("sam_config"), vision.get("encoder_config")
    if sam is None or clip_config is None:
        return Settings()
    options = {"positions": "bicubic_antialias", "downsample": list(sam.get("downsample_channels", (512, 1024)))}
    high = sub_config({**sam, "model_type": "sam_vision_model"}, "sam_vision_model") or {}
    low = sub_config({**clip_config, "model_type": "clip_vision_model"}, "clip_vision_model") or {}
    return Settings(low_res=low, high_res={**high, "tower_options": options})


DEEPSEEK_OCR = SourceSystem(
    name="deepseek-ocr",
    recipes=("deepseek-ocr",),
    layouts=(
        SourceLayout(
            "DeepSeek's own",
            "model.view_seperator",
            _own("model."),
            _drops("model.", "vision_model.", "model.embed_tokens.weight", "model.layers.{rest}", "model.norm.weight"),
        ),
        *[
            SourceLayout(
                f"transformers' names, {base or 'vision_tower.'}*",
                f"{base}view_separator",
                _in_tree(base),
                _drops(base, "vision_tower.vision_encoder.", f"{base}language_model.{{rest}}"),
            )
            for base in ("model.", "")
        ],
    ),
    settings=deepseek_ocr_settings,
    refused={
        **dict.fromkeys(
            ("model.qwen2_model.{rest}", "model.vision_tower.vision_encoder.query_{rest}"),
            "it is a DeepSeek-OCR-2, whose second tower is a language model with learned queries; `fila` has no such "
            "tower",
        )
    },
    text_is_replaced="its language model, of DeepSeek-V2's kind with attention of its own (`unlimited_ocr_text`), is "
    "in no table of transformers' causal language models",
)

__all__ = ["DEEPSEEK_OCR", "sam_model", "vision_model"]
