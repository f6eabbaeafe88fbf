# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""DINOv2 tower, with and without registers, run a group of layers at a time.

Papers: Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision", arXiv:2304.07193; Darcet et al.,
"Vision Transformers Need Registers", arXiv:2309.16588.
Code: transformers, `models/dinov2` and `models/dinov2_with_registers`, which this equals.

This file defines the layers because transformers renamed its own between supported versions. Weights have the names
of the published checkpoints, so that a checkpoint opens with every version.

Deviations: the tower leaves out layers that nothing reads and the mask token of pre-training; the layers have no
dropout but stochastic depth. Options: `tower_vit.py`.
"""

from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import nn
from transformers import Dinov2Config, Dinov2WithRegistersConfig, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import TransformersKwargs

from .tower_options import square
from .tower_positions import add_positions
from .tower_vit import VitTower, has_final_norm, of_low_res_tower, vit_options


def eager_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    **kwargs: Unpack[TransformersKwargs],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute attention `(T, heads, L, d)` in plain torch, with the signature of transformers' attention functions."""
    weights = query @ key.transpose(2, 3) * scaling
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = weights.softmax(dim=-1)
    return (weights @ value).transpose(1, 2).contiguous(), weights


class Dinov2SelfAttention(nn.Module):
    """Attention among the patches and prefix tokens of one view, without its output layer."""

    def __init__(self, config: Dinov2Config | Dinov2WithRegistersConfig) -> None:
        super().__init__()
        self.config = config
        self.is_causal = False
        self.head_size = config.hidden_size // config.num_attention_heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size, bias=config.qkv_bias)
        self.key = nn.Linear(config.hidden_size, config.hidden_size, bias=config.qkv_bias)
        self.value = nn.Linear(config.hidden_size, config.hidden_size, bias=config.qkv_bias)

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Map `(T, L, D) -> (T, L, D)`; return the attention weights too if the implementation computes them."""
        heads = (*hidden_states.shape[:-1], -1, self.head_size)
        query, key, value = (part(hidden_states).view(heads) for part in (self.query, self.key, self.value))
        attend: Any = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention)
        attended, weights = attend(
            self,
            query.transpose(1, 2),
            key.transpose(1, 2),
            value.transpose(1, 2),
            attention_mask,
            scaling=self.head_size**-0.5,
            **kwargs,
        )
        return attended.flatten(2), weights


class Dinov2Output(nn.Module):
    """The output layer of the attention."""

    def __init__(self, config: Dinov2Config | Dinov2WithRegistersConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)


class Dinov2Attention(nn.Module):
    """Attention and its output layer, under the names of the published checkpoints."""

    def __init__(self, config: Dinov2Config | Dinov2WithRegistersConfig) -> None:
        super().__init__()
        self.attention = Dinov2SelfAttention(config)
        self.output = Dinov2Output(config)

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None, **kwargs: Unpack[TransformersKwargs]
    ) -> torch.Tensor:
        attended: torch.Tensor = self.output.dense(self.attention(hidden_states, attention_mask, **kwargs)[0])
        return attended


class Dinov2Mlp(nn.Module):
    """MLP of two layers, or SwiGLU in the largest size."""

    def __init__(self, config: Dinov2Config | Dinov2WithRegistersConfig) -> None:
        super().__init__()
        width, hidden = config.hidden_size, int(config.hidden_size * config.mlp_ratio)
        self.gated = config.use_swiglu_ffn
        if self.gated:
            hidden = (hidden * 2 // 3 + 7) // 8 * 8
            self.weights_in = nn.Linear(width, 2 * hidden)
            self.weights_out = nn.Linear(hidden, width)
        else:
            self.fc1 = nn.Linear(width, hidden)
            self.act = ACT2FN[config.hidden_act]
            self.fc2 = nn.Linear(hidden, width)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if self.gated:
            gate, up = self.weights_in(hidden_states).chunk(2, dim=-1)
            gated: torch.Tensor = self.weights_out(F.silu(gate) * up)
            return gated
        update: torch.Tensor = self.fc2(self.act(self.fc1(hidden_states)))
        return update


class Dinov2LayerScale(nn.Module):
    """One learned factor per channel."""

    def __init__(self, config: Dinov2Config | Dinov2WithRegistersConfig) -> None:
        super().__init__()
        self.lambda1 = nn.Parameter(torch.full((config.hidden_size,), float(config.layerscale_value)))

    def forward(self, update: torch.Tensor) -> torch.Tensor:
        return update * self.lambda1


class Dinov2Block(GradientCheckpointingLayer):
    """One transformer layer."""

    def __init__(self, config: Dinov2Config | Dinov2WithRegistersConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = Dinov2Attention(config)
        self.layer_scale1 = Dinov2LayerScale(config)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = Dinov2Mlp(config)
        self.layer_scale2 = Dinov2LayerScale(config)
        self.drop_path = config.drop_path_rate

    def _kept(self, update: torch.Tensor) -> torch.Tensor:
        """Apply stochastic depth, arXiv:1603.09382, view by view."""
        if not self.training or self.drop_path == 0:
            return update
        keep = update.new_empty(len(update), 1, 1).bernoulli_(1 - self.drop_path)
        return update * keep / (1 - self.drop_path)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        """Map `(T, L, D) -> (T, L, D)`."""
        update = self.layer_scale1(self.attention(self.norm1(hidden_states), attention_mask, **kwargs))
        hidden_states = hidden_states + self._kept(update)
        return hidden_states + self._kept(self.layer_scale2(self.mlp(self.norm2(hidden_states))))


class Dinov2PatchEmbeddings(nn.Module):
    """The patch convolution."""

    def __init__(self, config: Dinov2Config | Dinov2WithRegistersConfig) -> None:
        super().__init__()
        patch = square(config, "patch_size")
        self.projection = nn.Conv2d(config.num_channels, config.hidden_size, kernel_size=patch, stride=patch)


class Dinov2Embeddings(nn.Module):
    """CLS, registers and patches, with positions for CLS and patches."""

    def __init__(self, config: Dinov2Config | Dinov2WithRegistersConfig) -> None:
        super().__init__()
        self.options = vit_options(config)
        side = square(config, "image_size") // square(config, "patch_size")
        self.num_registers = getattr(config, "num_register_tokens", 0)
        if self.options.prefix == "keep":
            self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
            if self.num_registers:
                self.register_tokens = nn.Parameter(torch.zeros(1, self.num_registers, config.hidden_size))
        self.patch_embeddings = Dinov2PatchEmbeddings(config)
        self.position_embeddings = nn.Parameter(torch.zeros(1, 1 + side * side, config.hidden_size))

    def forward(self, pixel_values: torch.Tensor, patch_grids: torch.Tensor | None = None) -> torch.Tensor:
        """Embed views `(T, 3, H, W)`, or `(T, 3, p, L * p)` with the patches side by side: `(T, N + L, D)`."""
        projection = self.patch_embeddings.projection
        features = projection(pixel_values.to(projection.weight.dtype))
        patches = features.flatten(2).transpose(1, 2)
        positions = self.position_embeddings[0]
        rule, grid = self.options.positions, (features.shape[2], features.shape[3])
        patches = add_positions(patches, positions[1:], rule, grid, patch_grids)
        if self.options.prefix == "drop":
            return patches
        prefix = self.cls_token + positions[:1]
        if self.num_registers:
            prefix = torch.cat([prefix, self.register_tokens], dim=1)
        return torch.cat([prefix.expand(patches.shape[0], -1, -1), patches], dim=1)


class Dinov2Layers(nn.Module):
    """Container of the layers; the tower runs them."""

    def __init__(self, config: Dinov2Config | Dinov2WithRegistersConfig, num_layers: int) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Dinov2Block(config) for _ in range(num_layers))


class Dinov2Tower(VitTower, PreTrainedModel):
    """DINOv2 whose layers the hybrid encoder runs itself.

    Args:
        config: A `Dinov2Config` or `Dinov2WithRegistersConfig`.
        num_layers: Layers to keep, counted from the input.
    """

    base_model_prefix = "dinov2"
    main_input_name = "pixel_values"
    input_modalities = ("image",)  # type: ignore[assignment]
    supports_gradient_checkpointing = True
    _no_split_modules = ["Dinov2Embeddings", "Dinov2Block", "VitMerger"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_record_outputs = of_low_res_tower(Dinov2Block, Dinov2SelfAttention)

    def __init__(self, config: Dinov2Config | Dinov2WithRegistersConfig, num_layers: int | None = None) -> None:
        super().__init__(config)
        depth = config.num_hidden_layers if num_layers is None else num_layers
        self.embeddings = Dinov2Embeddings(config)
        self.encoder = Dinov2Layers(config, depth)
        self.layernorm: nn.LayerNorm | None = None
        if has_final_norm(config, num_layers):
            self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.add_merger(config, num_layers)
        self.post_init()

    @classmethod
    def is_custom_code(cls) -> bool:
        """Keep transformers from skipping the init rules below."""
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Dinov2Embeddings):
            for parameter in module.parameters(recurse=False):
                init.trunc_normal_(parameter, mean=0.0, std=self.config.initializer_range)
        elif isinstance(module, nn.Linear | nn.Conv2d):
            init.trunc_normal_(module.weight, mean=0.0, std=self.config.initializer_range)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, Dinov2LayerScale):
            init.constant_(module.lambda1, self.config.layerscale_value)

    @staticmethod
    def num_prefix(config: PreTrainedConfig) -> int:
        """Return the number of prefix tokens, CLS and registers."""
        return 1 + getattr(config, "num_register_tokens", 0) if vit_options(config).prefix == "keep" else 0

    def get_input_embeddings(self) -> nn.Module:
        """Return the patch embedding."""
        patch_embeddings: Any = self.embeddings.patch_embeddings
        projection: nn.Module = patch_embeddings.projection
        return projection

    @property
    def layers(self) -> nn.ModuleList:
        """Layers that this tower keeps."""
        return self.encoder.layer

    @property
    def final_norm(self) -> nn.Module | None:
        """The norm after the last layer, if it is applied."""
        return self.layernorm
