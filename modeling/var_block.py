# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Block of the next-scale transformer: attention and MLP, modulated by the class.

Code: FoundationVision/VAR @ 78b9539, `models/basic_var.py`; the weights keep its names.

    g1, g2, s1, s2, h1, h2 = modulation of the class
    x = x + g1 attention(norm(x) (1 + s1) + h1)
    x = x + g2 mlp(norm(x) (1 + s2) + h2)              norms without weights

    q, k of length 1, q times exp(min(scale, log 100)) per head; or plain, with the scale 0.25 / sqrt(head width)

Shapes: B samples, L tokens, M width, A heads.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_var import VarConfig

MAX_LOG_SCALE = math.log(100)
FIRST_LOG_SCALE = math.log(4)


class NextScaleAttention(nn.Module):
    """Attention whose keys have no bias."""

    def __init__(self, config: VarConfig, index: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.index = index
        self.num_heads = config.num_attention_heads
        self.normalized = config.normalize_attention
        if self.normalized:
            self.scale_mul_1H11 = nn.Parameter(torch.empty(1, self.num_heads, 1, 1))
        self.mat_qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.empty(width))
        self.v_bias = nn.Parameter(torch.empty(width))
        self.proj = nn.Linear(width, width)

    def set_initial_weights(self, std: float) -> None:
        """Set the biases to zero and the scale to 4, as the source does."""
        init.zeros_(self.q_bias)
        init.zeros_(self.v_bias)
        if self.normalized:
            init.constant_(self.scale_mul_1H11, FIRST_LOG_SCALE)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None, cache: Cache | None) -> torch.Tensor:
        """Attend among `(B, L, M)`; `mask` `(L, keys)` is true where a token reads another."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        heads = (self.mat_qkv(x) + bias).unflatten(2, (3, self.num_heads, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        scale = 0.25 / math.sqrt(query.shape[-1])
        if self.normalized:
            query = F.normalize(query, dim=-1) * self.scale_mul_1H11.clamp(max=MAX_LOG_SCALE).exp()
            key = F.normalize(key, dim=-1)
            scale = 1.0
        if cache is not None:
            key, value = cache.update(key, value, self.index)
        read = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
        attended: torch.Tensor = self.proj(read.transpose(1, 2).flatten(2))
        return attended


class NextScaleMlp(nn.Module):
    """MLP of two layers."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = self.fc2(F.gelu(self.fc1(x), approximate="tanh"))
        return mixed


class NextScaleBlock(GradientCheckpointingLayer):
    """One block of attention and MLP."""

    def __init__(self, config: VarConfig, index: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.attn = NextScaleAttention(config, index)
        self.ffn = NextScaleMlp(width, round(width * config.mlp_ratio))
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps, elementwise_affine=False)
        depth = config.num_hidden_layers
        self.drop_path = (config.drop_path_rate or 0.0) * index / max(depth - 1, 1)
        self.shared = config.shared_adaln
        if self.shared:
            self.ada_gss = nn.Parameter(torch.empty(1, 1, 6, width))
        else:
            self.ada_lin = nn.Linear(width, 6 * width)

    def set_initial_weights(self, std: float) -> None:
        """Set the gains to nearly zero, as the source does, so that a block's updates start small."""
        width = self.attn.proj.in_features
        if self.shared:
            initial = nn.init.trunc_normal_(torch.empty_like(self.ada_gss), std=width**-0.5)
            init.copy_(self.ada_gss, torch.cat([initial[:, :, :2] * 1e-5, initial[:, :, 2:] * 0.5], dim=2))

    def forward(
        self, x: torch.Tensor, condition: torch.Tensor, mask: torch.Tensor | None, cache: Cache | None
    ) -> torch.Tensor:
        """Apply the block to `x (B, L, M)`; `condition` is the class `(B, M)` or shared modulation `(B, 1, 6, M)`."""
        if self.shared:
            modulation = self.ada_gss + condition
        else:
            modulation = self.ada_lin(F.silu(condition)).unflatten(1, (1, 6, -1))
        gain_attn, gain_mlp, scale_attn, scale_mlp, shift_attn, shift_mlp = modulation.unbind(2)
        x = x + self._kept(self.attn(self.norm(x) * (1 + scale_attn) + shift_attn, mask, cache) * gain_attn)
        return x + self._kept(self.ffn(self.norm(x) * (1 + scale_mlp) + shift_mlp) * gain_mlp)

    def _kept(self, update: torch.Tensor) -> torch.Tensor:
        """Return the update, dropped for some samples in training."""
        if not self.training or not self.drop_path:
            return update
        kept = torch.rand(len(update), 1, 1, device=update.device) >= self.drop_path
        return update * kept / (1 - self.drop_path)
