# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Multi-head attention from queries to other tokens.

Shapes: B batch, Q queries, K keys, D width of the queries, C width of the keys.
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, num_heads: int, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Return `softmax(q k^T / sqrt(D / heads)) v`, computed per head.

    Args:
        query: `(B, Q, D)`.
        key: `(B, K, D)`.
        value: `(B, K, D)`.
        num_heads: Divides D.
        mask: `(B, K)` bool, true for real keys; all are real by default.

    Returns:
        `(B, Q, D)`.
    """
    q, k, v = (x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (query, key, value))
    attended = F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask[:, None, None])
    return attended.transpose(1, 2).flatten(2)


def check_heads(field: str, num_heads: int, width: int) -> int:
    """Check that `num_heads` is positive and divides `width`; raise a `ValueError` otherwise."""
    if num_heads < 1 or width % num_heads:
        raise ValueError(f"`{field}` must divide the width {width}; got {num_heads}.")
    return num_heads


class CrossAttention(nn.Module):
    """Cross-attention from queries of width D to tokens of width C. Keys have no bias: softmax would cancel it.

    Args:
        width: D.
        num_heads: Divides D.
        key_size: C; D by default.
    """

    def __init__(self, width: int, num_heads: int, key_size: int | None = None) -> None:
        super().__init__()
        key_size = width if key_size is None else key_size
        self.num_heads = num_heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(key_size, width, bias=False)
        self.v_proj = nn.Linear(key_size, width)
        self.out_proj = nn.Linear(width, width)

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Map `(B, Q, D), (B, K, C), (B, K, C), (B, K) bool -> (B, Q, D)`."""
        attended = attend(self.q_proj(query), self.k_proj(key), self.v_proj(value), self.num_heads, mask)
        output: torch.Tensor = self.out_proj(attended)
        return output


class PackedAttention(nn.Module):
    """Cross-attention with one stacked weight for query, key and value, named as in `nn.MultiheadAttention`.

    Args:
        width: D.
        num_heads: Divides D.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def set_initial_weights(self, std: float) -> None:
        """Draw the weight from a normal distribution and set the bias to zero."""
        init.normal_(self.in_proj_weight, mean=0.0, std=std)
        init.zeros_(self.in_proj_bias)

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Map `(B, Q, D), (B, K, D), (B, K, D), (B, K) bool -> (B, Q, D)`."""
        parts = zip((query, key, value), self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3), strict=True)
        q, k, v = (F.linear(x, weight, bias) for x, weight, bias in parts)
        output: torch.Tensor = self.out_proj(attend(q, k, v, self.num_heads, mask))
        return output
