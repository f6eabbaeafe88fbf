# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Configuration of the EVA-02 tower, for which transformers has none."""

from typing import ClassVar

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class Eva02Config(PreTrainedConfig):
    r"""Configuration of the EVA-02 tower in its form for detection; the defaults are EVA-02-L's.

    Args:
        hidden_size (`int`, *optional*, defaults to 1024):
            Width.
        intermediate_size (`int`, *optional*, defaults to 2730):
            Hidden width of the SwiGLU layers.
        num_hidden_layers (`int`, *optional*, defaults to 24):
            Layers.
        num_attention_heads (`int`, *optional*, defaults to 16):
            Heads.
        num_channels (`int`, *optional*, defaults to 3):
            Channels of the image.
        image_size (`int`, *optional*, defaults to 1024):
            Pixels per side of a view.
        patch_size (`int`, *optional*, defaults to 16):
            Pixels per side of a patch.
        pretrain_image_size (`int`, *optional*, defaults to 224):
            Pixels per side of the images of pre-training, for which the position table is.
        rope_grid (`int`, *optional*, defaults to 16):
            Patches per side onto which rotary positions are scaled.
        window_size (`int`, *optional*, defaults to 16):
            Patches per side of a window.
        global_attn_indexes (`list[int]`, *optional*, defaults to `[2, 5, 8, 11, 14, 17, 20, 23]`):
            Layers, from 0, that attend beyond windows.
        layer_norm_eps (`float`, *optional*, defaults to 1e-6):
            Epsilon of the norms.
        initializer_range (`float`, *optional*, defaults to 0.02):
            Standard deviation of new weights.
    """

    model_type: ClassVar[str] = "eva02"

    hidden_size: int = 1024
    intermediate_size: int = 2730
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    num_channels: int = 3
    image_size: int = 1024
    patch_size: int = 16
    pretrain_image_size: int = 224
    rope_grid: int = 16
    window_size: int = 16
    global_attn_indexes: list[int] | tuple[int, ...] = (2, 5, 8, 11, 14, 17, 20, 23)
    layer_norm_eps: float = 1e-6
    initializer_range: float = 0.02
