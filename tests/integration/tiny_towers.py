# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Tiny towers of every kind, as settings of `tiny_config`: a view is 4 x 4 patches of each."""

from typing import Any

_VIT = {"hidden_size": 20, "intermediate_size": 37, "num_hidden_layers": 5, "num_attention_heads": 4}
SIGLIP = {"model_type": "siglip_vision_model", "image_size": 28, "patch_size": 7, **_VIT}
INTERNVIT = {"model_type": "internvl_vision", "image_size": [28, 28], "patch_size": [7, 7], **_VIT}
DINOV2 = {
    "model_type": "dinov2",
    "image_size": 28,
    "patch_size": 7,
    "hidden_size": 20,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "mlp_ratio": 2,
}
CONVNEXT = {"model_type": "convnext", "hidden_sizes": [5, 7, 11, 13], "depths": [1, 1, 1, 1]}
EVA2_CLIP = {"model_type": "eva2_clip", "image_size": 28, "patch_size": 7, **_VIT}
SAM = {
    "model_type": "sam_vision_model",
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 64,
    "patch_size": 16,
    "window_size": 3,
    "global_attn_indexes": [1],
    "output_channels": 6,
    "mlp_dim": 17,
    "num_pos_feats": 3,
}
EVA02 = {
    "model_type": "eva02",
    "hidden_size": 16,
    "intermediate_size": 19,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 64,
    "patch_size": 16,
    "pretrain_image_size": 32,
    "window_size": 2,
    "global_attn_indexes": [1],
    "rope_grid": 2,
}
PIX2STRUCT = {
    "model_type": "pix2struct_vision_model",
    "hidden_size": 14,
    "patch_embed_hidden_size": 192,
    "d_ff": 23,
    "d_kv": 7,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "seq_len": 100,
    "tower_options": {"patch_size": 8, "input_size": 32},
}
TOWERS: dict[str, dict[str, Any]] = {
    "clip": {"high_res_vision_config": None},
    "siglip": {"high_res_vision_config": None, "vision_config": SIGLIP},
    "internvit": {"high_res_vision_config": None, "vision_config": INTERNVIT},
    "dinov2": {"high_res_vision_config": None, "vision_config": DINOV2},
    "eva2_clip": {"high_res_vision_config": None, "vision_config": EVA2_CLIP},
    "clip + convnext": {"high_res_vision_config": CONVNEXT},
    "siglip + convnextv2": {
        "vision_config": SIGLIP,
        "high_res_vision_config": {**CONVNEXT, "model_type": "convnextv2"},
    },
    "internvit + sam": {"vision_config": INTERNVIT, "high_res_vision_config": SAM},
    "clip + eva02": {"high_res_vision_config": EVA02},
    "clip + pix2struct": {"high_res_vision_config": PIX2STRUCT, "high_res_tile_size": 32},
    "clip + dinov2": {"high_res_vision_config": DINOV2},
    "clip + convnext + sam": {
        "high_res_vision_config": CONVNEXT,
        "extra_vision_configs": [{**SAM, "tower_options": {"input_size": 64}}],
        "high_res_tile_size": 128,
    },
}
# Of these every view is encoded alone, as one stage.
ONE_STAGE = {name for name, settings in TOWERS.items() if "depths" not in (settings["high_res_vision_config"] or {})}
