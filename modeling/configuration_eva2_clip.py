# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Configuration of the EVA2-CLIP tower, for which transformers has none."""

from typing import ClassVar

from huggingface_hub.dataclasses import strict
from transformers import CLIPVisionConfig


@strict
class Eva2ClipConfig(CLIPVisionConfig):
    r"""Configuration of the EVA2-CLIP tower; the defaults are EVA2-CLIP-E's at 224 pixels.

    Args:
        hidden_size (`int`, *optional*, defaults to 1792):
            Width.
        intermediate_size (`int`, *optional*, defaults to 15360):
            Hidden width of the MLPs.
        num_hidden_layers (`int`, *optional*, defaults to 63):
            Layers.
        num_attention_heads (`int`, *optional*, defaults to 16):
            Heads.
        image_size (`int`, *optional*, defaults to 224):
            Pixels per side of a view, for which the position table is.
        patch_size (`int`, *optional*, defaults to 14):
            Pixels per side of a patch.
        hidden_act (`str`, *optional*, defaults to `"gelu"`):
            Activation of the MLPs.
        layer_norm_eps (`float`, *optional*, defaults to 1e-6):
            Epsilon of the norms.
        num_channels, attention_dropout, initializer_range, initializer_factor (*optional*):
            As in `CLIPVisionConfig`; its `projection_dim` is read by nothing.
    """

    model_type: ClassVar[str] = "eva2_clip"

    hidden_size: int = 1792
    intermediate_size: int = 15360
    num_hidden_layers: int = 63
    num_attention_heads: int = 16
    image_size: int | list[int] | tuple[int, int] | None = 224
    patch_size: int | list[int] | tuple[int, int] | None = 14
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-6
