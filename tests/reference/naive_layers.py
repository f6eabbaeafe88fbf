# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""What several slow twins need: attention a head and a query at a time, resizing by explicit weights, positions."""

import math

import torch

from tests.reference.naive_hybrid_encoder import Weights, layer_norm, linear, resize

__all__ = ["Weights", "layer_norm", "linear", "resize"]


def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, num_heads: int) -> torch.Tensor:
    """`(Q, D), (K, D), (K, D) -> (Q, D)`, one head and one query at a time."""
    width = query.shape[1] // num_heads
    rows = []
    for q in query:
        heads = []
        for head in range(num_heads):
            part = slice(head * width, (head + 1) * width)
            scores = key[:, part] @ q[part] / math.sqrt(width)
            shares = torch.exp(scores - scores.max())
            shares = shares / shares.sum()
            heads.append(shares @ value[:, part])
        rows.append(torch.cat(heads))
    return torch.stack(rows)


def cross_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, num_heads: int, weights: Weights, name: str
) -> torch.Tensor:
    """With separate projections; keys have no bias."""
    k = key @ weights[f"{name}.k_proj.weight"].T
    attended = attention(
        linear(query, weights, f"{name}.q_proj"), k, linear(value, weights, f"{name}.v_proj"), num_heads
    )
    return linear(attended, weights, f"{name}.out_proj")


def packed_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, num_heads: int, weights: Weights, name: str
) -> torch.Tensor:
    """With one stacked projection."""
    width = query.shape[1]
    q, k, v = (
        x @ weights[f"{name}.in_proj_weight"][i * width : (i + 1) * width].T
        + weights[f"{name}.in_proj_bias"][i * width : (i + 1) * width]
        for i, x in enumerate((query, key, value))
    )
    return linear(attention(q, k, v, num_heads), weights, f"{name}.out_proj")


def gelu(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def sigmoid(x: torch.Tensor) -> torch.Tensor:
    return 1 / (1 + torch.exp(-x))


def sincos(row: float, col: float, width: int) -> torch.Tensor:
    """`(width,)`: sines and cosines of the column, then of the row."""
    frequencies = [10000 ** (-k / (width / 4)) for k in range(width // 4)]
    values = []
    for place in (col, row):
        values += [math.sin(place * f) for f in frequencies] + [math.cos(place * f) for f in frequencies]
    return torch.tensor(values, dtype=torch.float64)


def channels_last(maps: torch.Tensor) -> torch.Tensor:
    """`(E, h, w) -> (h, w, E)`."""
    return maps.permute(1, 2, 0)
