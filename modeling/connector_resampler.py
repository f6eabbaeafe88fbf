# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Resampler connector: learned queries read a view of any shape, in one cross-attention layer.

Paper: Yao et al., "MiniCPM-V: A GPT-4V Level MLLM on Your Phone", arXiv:2408.01800, after Bai et al., "Qwen-VL",
arXiv:2308.12966.
Code: MiniCPM-V 2.6's hub file `resampler.py::Resampler`; the weights keep its names.

    x = norm_kv(W_kv feature)            no bias; no W_kv if the widths agree
    image tokens = norm_post(attention(norm_q(query), x + position, x)) proj

The position of a patch is the sine-cosine code of its row and column, counted from 0, not normalised; queries have
none. 64 queries in version 2.6, 96 in 2.5.

Deviations: positions are computed at every call instead of being cached for grids up to 70 x 70.

Shapes: T views, P patches of the largest view, D vision width, N queries, M language-model width.
"""

import torch
from torch import nn
from transformers import initialization as init

from .configuration_fila import FilaConfig
from .connector_sincos import sincos_2d
from .part_attention import PackedAttention, check_heads
from .view_patch_grid import Grid, patch_positions


class ResamplerConnector(nn.Module):
    """Resampler with one image token per query, for views of any shape.

    Args:
        config: The `FilaConfig`.
        input_size: Channels of the features.
        num_queries: N.
        num_heads: Heads of the attention; one per 128 channels by default.

    Raises:
        ValueError: If M is not divisible by 4 or by the heads, or there is no query.
    """

    takes_unequal_views = True
    patch_block: int | None = None
    over_time = "each"

    def __init__(
        self, config: FilaConfig, *, input_size: int, num_queries: int = 64, num_heads: int | None = None
    ) -> None:
        super().__init__()
        width = config.text_config.hidden_size
        if num_queries < 1:
            raise ValueError(f"`connector.num_queries` must be at least 1; got {num_queries}.")
        if width % 4:
            raise ValueError(f"Connector 'resampler' needs a language-model width divisible by 4; got {width}.")
        heads = check_heads("connector.num_heads", max(1, width // 128) if num_heads is None else num_heads, width)
        self.query = nn.Parameter(torch.zeros(num_queries, width))
        self.kv_proj = nn.Linear(input_size, width, bias=False) if input_size != width else nn.Identity()
        self.attn = PackedAttention(width, heads)
        self.ln_q = nn.LayerNorm(width, eps=1e-6)
        self.ln_kv = nn.LayerNorm(width, eps=1e-6)
        self.ln_post = nn.LayerNorm(width, eps=1e-6)
        self.proj = nn.Parameter(torch.zeros(width, width))

    def set_initial_weights(self, std: float) -> None:
        """Draw queries with deviation 0.02 and `proj` with variance 1 / M, as the source does."""
        init.trunc_normal_(self.query, std=0.02)
        init.normal_(self.proj, mean=0.0, std=self.proj.shape[0] ** -0.5)

    def tokens_per_tile(self, patch_grid: tuple[int, int]) -> int:
        """Return one image token per query."""
        return self.query.shape[0]

    def token_grid(self, patch_grid: tuple[int, int]) -> tuple[int, int] | None:
        """Return None: a query reads the whole view."""
        return None

    def forward(self, features: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Map `(T, P, D) -> (T, N, M)`; padding is not read."""
        rows, cols, exists = patch_positions(grid, features.shape[1], features.device)
        value = self.ln_kv(self.kv_proj(features))
        key = value + sincos_2d(rows, cols, value.shape[-1]).to(value.dtype)
        query = self.ln_q(self.query).expand(features.shape[0], -1, -1)
        mask = exists.expand(features.shape[0], -1) if isinstance(grid, torch.Tensor) else None
        tokens: torch.Tensor = self.ln_post(self.attn(query, key, value, mask)) @ self.proj
        return tokens
