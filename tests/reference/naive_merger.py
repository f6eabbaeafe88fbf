# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Slow twins of the mergers, a window at a time: `(L, D) -> (L / 4, ...)`."""

import math

import torch

from tests.reference.naive_layers import Weights, attention, gelu, layer_norm, linear


def gelu_tanh(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def windows_of(x: torch.Tensor, rows: int, cols: int) -> list[torch.Tensor]:
    """The four features `(4, D)` of each window of a view, windows and features row by row."""
    return [
        torch.stack([x[(top + down) * cols + left + right] for down in (0, 1) for right in (0, 1)])
        for top in range(0, rows, 2)
        for left in range(0, cols, 2)
    ]


def naive_vit_merger(
    weights: Weights, x: torch.Tensor, rows: int, cols: int, heads: int, eps: float = 1e-6
) -> torch.Tensor:
    merged = []
    for window in windows_of(x, rows, cols):
        normed = layer_norm(window, weights, "layer_norm1", eps)
        q, k, v = (linear(normed, weights, f"self_attn.{part}_proj") for part in "qkv")
        w = window + linear(attention(q, k, v, heads), weights, "self_attn.out_proj")
        inner = gelu_tanh(linear(layer_norm(w.flatten(), weights, "pre_norm", eps), weights, "linear_1"))
        merged.append(linear(inner, weights, "linear_2") + (w[0] + w[1] + w[2] + w[3]) / 4)
    return torch.stack(merged)


def naive_merger(
    weights: Weights, x: torch.Tensor, rows: int, cols: int, times: int, norm_first: bool
) -> torch.Tensor:
    for number in range(times):
        name = f"mlp.{number}"
        merged = []
        for window in windows_of(x, rows, cols):
            parts = window if norm_first else window.flatten()
            normed = layer_norm(parts, weights, f"{name}.pre_norm", 1e-6).flatten()
            merged.append(linear(gelu(linear(normed, weights, f"{name}.linear_1")), weights, f"{name}.linear_2"))
        x, rows, cols = torch.stack(merged), rows // 2, cols // 2
    return x
