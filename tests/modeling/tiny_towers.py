# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Tiny configs of every tower, for views of 28 pixels and high-res views of 128 pixels (`tests/helpers.py`)."""

from typing import Any

from transformers import AutoConfig

from fila.modeling.configuration_eva02 import Eva02Config
from fila.modeling.configuration_eva2_clip import Eva2ClipConfig

VIT: dict[str, Any] = {
    "hidden_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 7,
}
LOW_RES: dict[str, dict[str, Any]] = {
    "clip_vision_model": {**VIT, "intermediate_size": 37},
    "dinov2": VIT,
    "dinov2_with_registers": {**VIT, "num_register_tokens": 3},
    "eva2_clip": {**VIT, "intermediate_size": 37},
    "internvl_vision": {**VIT, "intermediate_size": 37, "use_mean_pooling": False},
    "siglip_vision_model": {**VIT, "intermediate_size": 37},
}
HIGH_RES: dict[str, dict[str, Any]] = {
    "convnext": {"hidden_sizes": [5, 7, 11, 13], "depths": [1, 1, 1, 1]},
    "eva02": {
        "hidden_size": 24,
        "intermediate_size": 31,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 128,
        "pretrain_image_size": 48,
        "rope_grid": 5,
        "window_size": 3,
        "global_attn_indexes": [1],
    },
    "pix2struct_vision_model": {
        "hidden_size": 12,
        "d_ff": 31,
        "d_kv": 5,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "seq_len": 19,
        "tower_options": {"input_size": 80},
    },
    "sam_vision_model": {
        "hidden_size": 20,
        "output_channels": 9,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 128,
        "window_size": 3,
        "global_attn_indexes": [1],
        "initializer_range": 0.02,
    },
    **{name: {**config, "tower_options": {"input_size": 42}} for name, config in LOW_RES.items()},
}


def low_res(name: str, **changes: Any) -> dict[str, Any]:
    """Settings of a low-res tower, for `tiny_config`."""
    return {"model_type": name, **LOW_RES[name], **changes}


def high_res(name: str, **changes: Any) -> dict[str, Any]:
    """Settings of a high-res tower, for `tiny_config`."""
    return {"model_type": name, **HIGH_RES[name], **changes}


def tower_config(settings: dict[str, Any]) -> Any:
    """The config that settings with a `model_type` make."""
    options = dict(settings)
    model_type = options.pop("model_type")
    own: dict[str, Any] = {"eva02": Eva02Config, "eva2_clip": Eva2ClipConfig}
    return own[model_type](**options) if model_type in own else AutoConfig.for_model(model_type, **options)
