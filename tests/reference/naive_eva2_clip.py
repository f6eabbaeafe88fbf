# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""EVA2-CLIP for one view, patch by patch, a head and a query at a time."""

from typing import Any

import torch

from tests.reference.naive_layers import Weights, attention, gelu, layer_norm, linear


def naive_eva2_clip(weights: Weights, config: Any, view: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """`(3, H, W)` and positions `(1 + P, D)` of CLS and patches, to `(1 + P, D)` after all layers."""
    size, kernel = config.patch_size, weights["embeddings.patch_embedding.weight"].flatten(1)
    rows = [weights["embeddings.class_embedding"]]
    for top in range(0, view.shape[1], size):
        for left in range(0, view.shape[2], size):
            patch = view[:, top : top + size, left : left + size].flatten()
            rows.append(kernel @ patch + weights["embeddings.patch_embedding.bias"])
    tokens = torch.stack(rows) + positions
    for index in range(config.num_hidden_layers):
        key = f"encoder.layers.{index}"
        query, keys, values = (linear(tokens, weights, f"{key}.self_attn.{part}_proj") for part in "qkv")
        attended = attention(query, keys, values, config.num_attention_heads)
        update = linear(attended, weights, f"{key}.self_attn.out_proj")
        tokens = tokens + layer_norm(update, weights, f"{key}.layer_norm1", config.layer_norm_eps)
        update = linear(gelu(linear(tokens, weights, f"{key}.mlp.fc1")), weights, f"{key}.mlp.fc2")
        tokens = tokens + layer_norm(update, weights, f"{key}.layer_norm2", config.layer_norm_eps)
    return tokens
