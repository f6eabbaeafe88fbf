# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Slow twins of the fusions that join the towers after the last layer, one view at a time.

Each takes the fusion's weights, one view's low-res patches `(P, D)` and its squares `(E, s, s)` of the stages, and the
side of the patch grid.
"""

import math

import torch

from tests.reference.naive_hybrid_encoder import align
from tests.reference.naive_layers import (
    Weights,
    attention,
    channels_last,
    cross_attention,
    gelu,
    layer_norm,
    linear,
    resize,
    sigmoid,
    sincos,
)

Squares = list[torch.Tensor]


def naive_channel_concat(weights: Weights, low: torch.Tensor, high: Squares, side: int, grid: int) -> torch.Tensor:
    """EAGLE's rule: every map on `grid` x `grid`, corners aligned."""
    maps = [low.unflatten(0, (side, side)), *map(channels_last, high)]
    return torch.cat([resize(x, grid, corners=True).flatten(0, 1) for x in maps], dim=-1)


def aligned(kind: str, weights: Weights, name: str, high: torch.Tensor, side: int) -> torch.Tensor:
    return align(kind, weights, name, channels_last(high), side)


def concatenated(weights: Weights, low: torch.Tensor, high: Squares, side: int) -> torch.Tensor:
    squares = [aligned("bilinear", weights, "", square, side) for square in high]
    return torch.cat([low, *squares], dim=-1)


def naive_concat_1x1(weights: Weights, low: torch.Tensor, high: Squares, side: int) -> torch.Tensor:
    return linear(concatenated(weights, low, high, side), weights, "project")


def naive_se(weights: Weights, low: torch.Tensor, high: Squares, side: int) -> torch.Tensor:
    x = concatenated(weights, low, high, side)
    hidden = linear(sum(x) / len(x), weights, "gate.squeeze").clamp(min=0)
    shares = sigmoid(linear(hidden, weights, "gate.excite"))
    return torch.stack([linear(shares * token, weights, "project") for token in x])


def naive_cbam(weights: Weights, low: torch.Tensor, high: Squares, side: int) -> torch.Tensor:
    x = concatenated(weights, low, high, side)
    gates = []
    for pooled in (x.mean(0), x.max(0).values):
        gates.append(linear(linear(pooled, weights, "gate.squeeze").clamp(min=0), weights, "gate.excite"))
    x = sigmoid(gates[0] + gates[1]) * x
    kernel = weights["gate.conv.weight"][0]
    reach = kernel.shape[-1] // 2
    pooled = torch.stack([x.mean(1), x.max(1).values]).unflatten(1, (side, side))
    rows = []
    for r in range(side):
        for c in range(side):
            score = weights["gate.conv.bias"][0]
            for dy in range(-reach, reach + 1):
                for dx in range(-reach, reach + 1):
                    if 0 <= r + dy < side and 0 <= c + dx < side:
                        score = score + (kernel[:, dy + reach, dx + reach] * pooled[:, r + dy, c + dx]).sum()
            rows.append(linear(sigmoid(score) * x[r * side + c], weights, "project"))
    return torch.stack(rows)


def naive_scale_softmax(weights: Weights, low: torch.Tensor, high: Squares, side: int) -> torch.Tensor:
    scales = [low]
    for index, square in enumerate(high):
        x = aligned("conv", weights, f"project.{index}.align", square, side)
        scales.append(linear(x, weights, f"project.{index}.linear"))
    shares = torch.exp(weights["scales.weights"])
    return sum(share * scale for share, scale in zip(shares, scales, strict=True)) / shares.sum()


def naive_spatial_gate(weights: Weights, low: torch.Tensor, high: Squares, side: int) -> torch.Tensor:
    cells = channels_last(high[0])
    score = (cells * weights["gate.conv.weight"][0, :, 0, 0]).sum(-1) + weights["gate.conv.bias"]
    gated = align("pool", weights, "", cells * sigmoid(score)[..., None], side)
    return low + linear(gated, weights, "project.linear")


def naive_upsample_concat(weights: Weights, low: torch.Tensor, high: Squares, side: int) -> torch.Tensor:
    cells = channels_last(high[0])
    enlarged = resize(low.unflatten(0, (side, side)), cells.shape[0], corners=False)
    return torch.cat([cells, enlarged], dim=-1).flatten(0, 1)


def naive_sequence_concat(weights: Weights, low: torch.Tensor, high: Squares, side: int, order: str) -> torch.Tensor:
    tokens = linear(channels_last(high[0]).flatten(0, 1), weights, "connectors.1")
    if order == "append":
        return torch.cat([low, tokens])
    return torch.stack([token for pair in zip(low, tokens, strict=True) for token in pair])


def naive_multi_encoder_queries(
    weights: Weights, low: torch.Tensor, high: Squares, side: int, num_heads: int, num_layers: int
) -> torch.Tensor:
    encoders = [low, *[channels_last(square).flatten(0, 1) for square in high]]
    tokens = torch.cat([linear(x, weights, f"project.{index}") for index, x in enumerate(encoders)])
    queries = layer_norm(weights["reader.queries"], weights, "reader.norm", 1e-12)
    for index in range(num_layers):
        name = f"reader.layers.{index}"
        read = cross_attention(queries, queries, queries, num_heads, weights, f"{name}.self_attention")
        queries = layer_norm(queries + read, weights, f"{name}.self_norm", 1e-12)
        if index % 2 == 0:
            read = cross_attention(queries, tokens, tokens, num_heads, weights, f"{name}.cross_attention")
            queries = layer_norm(queries + read, weights, f"{name}.cross_norm", 1e-12)
        hidden = linear(gelu(linear(queries, weights, f"{name}.fc1")), weights, f"{name}.fc2")
        queries = layer_norm(queries + hidden, weights, f"{name}.norm", 1e-12)
    return queries


def naive_query_gate(
    weights: Weights, low: torch.Tensor, high: torch.Tensor | None, places: list[tuple[int, int]], num_heads: int
) -> torch.Tensor:
    """One image: `(V, P, D), (V, E, s, s)` and the place of each view `-> (V, P, D)`."""
    keys, values = [], []
    for view, place in enumerate(places):
        tokens = low[view]
        if high is not None:
            tokens = linear(channels_last(high[view]).flatten(0, 1), weights, "project")
        tokens = layer_norm(tokens, weights, "reader.norm", 1e-5)
        values.append(tokens)
        keys.append(tokens + sincos(*place, tokens.shape[-1]))
    found = cross_attention(
        weights["reader.queries"], torch.cat(keys), torch.cat(values), num_heads, weights, "reader.attention"
    )
    merged = []
    for view in low:
        gate = sigmoid(linear(torch.cat([found, view], dim=-1), weights, "merge.gate"))
        merged.append(gate * found + (1 - gate) * view)
    return torch.stack(merged)


def naive_cross_attention_layer(
    weights: Weights, name: str, low: torch.Tensor, high: torch.Tensor, side: int, num_heads: int
) -> torch.Tensor:
    """One view at a tap: `(N + P, D), (E, s, s) -> (N + P, D)`."""
    cells = channels_last(high)
    step = side / cells.shape[0]
    values = linear(layer_norm(cells.flatten(0, 1), weights, f"{name}.norm_high", 1e-5), weights, f"{name}.project")
    width, count = low.shape[1], cells.shape[0]
    codes = [sincos((r + 0.5) * step - 0.5, (c + 0.5) * step - 0.5, width) for r in range(count) for c in range(count)]
    query = layer_norm(low, weights, f"{name}.norm_low", 1e-5)
    prefix = len(low) - side * side
    none = [torch.zeros(width, dtype=torch.float64)] * prefix
    query = query + torch.stack(none + [sincos(r, c, width) for r in range(side) for c in range(side)])
    keys = (values + torch.stack(codes)) @ weights[f"{name}.attention.k_proj.weight"].T
    attended = attention(
        linear(query, weights, f"{name}.attention.q_proj"),
        keys,
        linear(values, weights, f"{name}.attention.v_proj"),
        num_heads,
    )
    update = linear(attended, weights, f"{name}.attention.out_proj")
    gate = weights[f"{name}.gate"]
    return low + (torch.exp(gate) - torch.exp(-gate)) / (torch.exp(gate) + torch.exp(-gate)) * update


def slices(num_views: int, rows: int, cols: int) -> list[tuple[int, int]]:
    """Places of an image's views: the overview at (0, 0), tiles from (1, 1)."""
    return [(0, 0)] * (num_views - rows * cols) + [(r + 1, c + 1) for r in range(rows) for c in range(cols)]


def side_of(tokens: torch.Tensor) -> int:
    return math.isqrt(len(tokens))
