# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""EVA-02 with windows, patch by patch: rotations as complex numbers, one window at a time."""

import math
from typing import Any

import torch

from tests.reference.naive_layers import Weights, layer_norm, linear


def turned(token: torch.Tensor, row: float, col: float, heads: int) -> torch.Tensor:
    """One token `(D,)` as `(heads, d / 2)` complex, turned: the first half by its row, the second by its column."""
    pairs = torch.view_as_complex(token.reshape(heads, -1, 2).contiguous())
    half = pairs.shape[1] // 2
    angles = torch.tensor([place * 10000 ** (-step / half) for place in (row, col) for step in range(half)])
    return pairs * torch.polar(torch.ones_like(angles), angles).to(pairs.dtype)


def attention(weights: Weights, key: str, tokens: torch.Tensor, grid: int, config: Any) -> torch.Tensor:
    """`(g, g, D) -> (g, g, D)` for one window or view of g patches per side."""
    heads, side = config.num_attention_heads, tokens.shape[0]
    flat = tokens.reshape(side * side, -1)
    query = flat @ weights[f"{key}.q_proj.weight"].T + weights[f"{key}.q_bias"]
    keys = flat @ weights[f"{key}.k_proj.weight"].T
    values = flat @ weights[f"{key}.v_proj.weight"].T + weights[f"{key}.v_bias"]
    places = [(row * grid / side, col * grid / side) for row in range(side) for col in range(side)]
    query = torch.stack([turned(token, *place, heads) for token, place in zip(query, places, strict=True)])
    keys = torch.stack([turned(token, *place, heads) for token, place in zip(keys, places, strict=True)])
    parts = []
    for head, value in enumerate(values.chunk(heads, dim=1)):
        scores = (query[:, head] @ keys[:, head].conj().T).real / math.sqrt(value.shape[1])
        parts.append(scores.softmax(dim=1) @ value)
    return linear(torch.cat(parts, dim=1), weights, f"{key}.proj").reshape(tokens.shape)


def naive_eva02(weights: Weights, config: Any, tokens: torch.Tensor) -> torch.Tensor:
    """All layers on one view's patches with positions, `(g, g, D)`."""
    side, size = tokens.shape[0], config.window_size
    for index in range(config.num_hidden_layers):
        key = f"blocks.{index}"
        normed = layer_norm(tokens, weights, f"{key}.norm1", config.layer_norm_eps)
        if index in config.global_attn_indexes:
            update = attention(weights, f"{key}.attn", normed, config.rope_grid, config)
        else:
            update = torch.zeros_like(normed)
            for top in range(0, side, size):
                for left in range(0, side, size):
                    window = normed.new_zeros(size, size, normed.shape[2])
                    piece = normed[top : top + size, left : left + size]
                    window[: piece.shape[0], : piece.shape[1]] = piece
                    found = attention(weights, f"{key}.attn", window, config.rope_grid, config)
                    update[top : top + size, left : left + size] = found[: piece.shape[0], : piece.shape[1]]
        tokens = tokens + update
        normed = layer_norm(tokens, weights, f"{key}.norm2", config.layer_norm_eps)
        gate = linear(normed, weights, f"{key}.mlp.w1")
        hidden = gate * gate.sigmoid() * linear(normed, weights, f"{key}.mlp.w2")
        hidden = layer_norm(hidden, weights, f"{key}.mlp.ffn_ln", config.layer_norm_eps)
        tokens = tokens + linear(hidden, weights, f"{key}.mlp.w3")
    return tokens
