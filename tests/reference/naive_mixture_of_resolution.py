# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Slow twin of LLaVA-HR's adapter and final align, one view at a time."""

import torch
import torch.nn.functional as F

from tests.reference.naive_layers import Weights, channels_last, gelu, linear, resize


def match_grid(x: torch.Tensor, side: int) -> torch.Tensor:
    """`(s, s, E) -> (side, side, E)`: means of blocks down, aligned corners up."""
    if x.shape[0] <= side:
        return resize(x, side, corners=True)
    step = x.shape[0] // side
    cells = [
        x[r * step : (r + 1) * step, c * step : (c + 1) * step].mean((0, 1)) for r in range(side) for c in range(side)
    ]
    return torch.stack(cells).unflatten(0, (side, side))


def pointwise(x: torch.Tensor, weights: Weights, name: str) -> torch.Tensor:
    """A 1x1 convolution on `(h, w, C)`."""
    return x @ weights[f"{name}.weight"][:, :, 0, 0].T + weights[f"{name}.bias"]


def naive_adapter(weights: Weights, name: str, low: torch.Tensor, high: torch.Tensor, side: int) -> torch.Tensor:
    """`(N + P, D), (E, s, s) -> (N + P, D)`."""
    prefix, patches = low[: len(low) - side * side], low[len(low) - side * side :]
    detail = pointwise(
        gelu(pointwise(channels_last(high), weights, f"{name}.high_conv")), weights, f"{name}.high_proj"
    )
    detail = match_grid(detail, side).flatten(0, 1)
    grid = patches.unflatten(0, (side, side))
    padded = F.pad(grid, (0, 0, 3, 3, 3, 3))
    kernel = weights[f"{name}.low_conv.weight"][:, 0]
    local = weights[f"{name}.low_conv.bias"] + sum(
        padded[dy : dy + side, dx : dx + side] * kernel[:, dy, dx] for dy in range(7) for dx in range(7)
    )
    patches = patches + pointwise(gelu(local), weights, f"{name}.low_proj").flatten(0, 1)
    pooled = torch.cat([patches.mean(0), detail.mean(0)])
    gate = torch.tanh(linear(gelu(linear(pooled, weights, f"{name}.gate.0")), weights, f"{name}.gate.2"))
    return torch.cat([prefix, patches + gate * detail])


def naive_final_align(weights: Weights, name: str, low: torch.Tensor, high: torch.Tensor, side: int) -> torch.Tensor:
    """`(P, D), (E, s, s) -> (P, D)`."""
    detail = match_grid(channels_last(high), side).flatten(0, 1)
    return linear(low, weights, f"{name}.low_proj") + linear(detail, weights, f"{name}.high_proj")
