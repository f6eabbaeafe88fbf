# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Slow twin of serial towers, written from the equations: SAM, two convolutions, CLIP on their map.

One view, one window, one query at a time; only the weights are shared: `dict(FilaVisionModel.named_parameters())`.
Positions are resampled by torch's antialiased bicubic interpolation, as the source does.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F

from tests.reference.naive_hybrid_encoder import Weights, clip_layer, layer_norm, linear, patch_embed
from tests.reference.naive_layers import gelu


def resampled(table: torch.Tensor, side: int) -> torch.Tensor:
    """`(s, s, D) -> (side, side, D)`."""
    if table.shape[0] == side:
        return table
    maps = table.permute(2, 0, 1)[None].float()
    drawn = F.interpolate(maps, (side, side), mode="bicubic", align_corners=False, antialias=True)
    return drawn[0].permute(1, 2, 0).to(table.dtype)


def relative(table: torch.Tensor, side: int) -> torch.Tensor:
    """`(2 s - 1, d) -> (2 side - 1, d)`: by linear interpolation, edge on edge."""
    length, wanted = table.shape[0], 2 * side - 1
    rows = []
    for index in range(wanted):
        place = min(max((index + 0.5) * length / wanted - 0.5, 0), length - 1)
        low = int(place)
        high, share = min(low + 1, length - 1), place - low
        rows.append(table[low] * (1 - share) + table[high] * share)
    return torch.stack(rows)


def sam_attention(x: torch.Tensor, weights: Weights, name: str, heads: int) -> torch.Tensor:
    """`(side, side, D) -> (side, side, D)`: a query at a time, with relative positions along rows and columns."""
    side, width = x.shape[0], x.shape[2]
    q, k, v = linear(x, weights, f"{name}.qkv").split(width, dim=-1)
    by_row, by_col = (relative(weights[f"{name}.rel_pos_{axis}"], side) for axis in "hw")
    size = width // heads
    out = []
    for row in range(side):
        for col in range(side):
            parts = []
            for head in range(heads):
                part = slice(head * size, (head + 1) * size)
                query = q[row, col, part]
                scores = (k[:, :, part] @ query) / math.sqrt(size)
                along_rows = torch.stack([by_row[row - other + side - 1] @ query for other in range(side)])
                along_cols = torch.stack([by_col[col - other + side - 1] @ query for other in range(side)])
                scores = scores + along_rows[:, None] + along_cols[None]
                shares = torch.softmax(scores.flatten(), dim=0)
                parts.append(shares @ v[:, :, part].flatten(0, 1))
            out.append(torch.cat(parts))
    return linear(torch.stack(out), weights, f"{name}.proj").unflatten(0, (side, side))


def windowed(x: torch.Tensor, weights: Weights, name: str, heads: int, window: int) -> torch.Tensor:
    """The same inside each window; the map is padded with zeros on the right and at the bottom."""
    side = x.shape[0]
    padded = F.pad(x, (0, 0, 0, -side % window, 0, -side % window))
    rows = []
    for top in range(0, padded.shape[0], window):
        cells = [
            sam_attention(padded[top : top + window, left : left + window], weights, name, heads)
            for left in range(0, padded.shape[1], window)
        ]
        rows.append(torch.cat(cells, dim=1))
    return torch.cat(rows)[:side, :side]


def sam_map(config: Any, weights: Weights, view: torch.Tensor) -> torch.Tensor:
    """`(3, S, S) -> (g, g, D)`."""
    name = "high_res_tower"
    x = patch_embed(view, weights[f"{name}.patch_embed.projection.weight"], config.patch_size)
    x = x + weights[f"{name}.patch_embed.projection.bias"]
    x = x + resampled(weights[f"{name}.pos_embed"][0], x.shape[0])
    for index in range(config.num_hidden_layers):
        layer = f"{name}.layers.{index}"
        normed = layer_norm(x, weights, f"{layer}.layer_norm1", config.layer_norm_eps)
        if index in config.global_attn_indexes:
            x = x + sam_attention(normed, weights, f"{layer}.attn", config.num_attention_heads)
        else:
            x = x + windowed(normed, weights, f"{layer}.attn", config.num_attention_heads, config.window_size)
        hidden = linear(
            layer_norm(x, weights, f"{layer}.layer_norm2", config.layer_norm_eps), weights, f"{layer}.mlp.lin1"
        )
        x = x + linear(gelu(hidden), weights, f"{layer}.mlp.lin2")
    x = x @ weights[f"{name}.neck.conv1.weight"].flatten(1).T
    x = layer_norm(x, weights, f"{name}.neck.layer_norm1", 1e-6)
    x = convolved(x, weights[f"{name}.neck.conv2.weight"], 1)
    x = layer_norm(x, weights, f"{name}.neck.layer_norm2", 1e-6)
    for index in range(len(config.tower_options["downsample"])):
        x = convolved(x, weights[f"{name}.downsample.{index}.weight"], 2)
    return x


def convolved(x: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
    """A 3x3 convolution with a border of zeros, `(h, w, C) -> (ceil(h / stride), ceil(w / stride), E)`."""
    padded, flat = F.pad(x, (0, 0, 1, 1, 1, 1)), weight.permute(0, 2, 3, 1).flatten(1)
    rows = []
    for top in range(0, x.shape[0], stride):
        cells = [flat @ padded[top : top + 3, left : left + 3].flatten() for left in range(0, x.shape[1], stride)]
        rows.append(torch.stack(cells))
    return torch.stack(rows)


def serial_features(config: Any, weights: Weights, view: torch.Tensor) -> torch.Tensor:
    """`(3, S, S) -> (g^2, 2 D)`: [CLIP ; map]."""
    made = sam_map(config.high_res_vision_config, weights, view)
    side, vision = made.shape[0], config.vision_config
    table = weights["low_res_tower.embeddings.position_embedding.weight"]
    own = round(math.sqrt(len(table) - 1))
    positions = resampled(table[1:].unflatten(0, (own, own)), side).flatten(0, 1)
    cls = weights["low_res_tower.embeddings.class_embedding"] + table[0]
    x = torch.cat([cls[None], made.flatten(0, 1) + positions])
    x = layer_norm(x, weights, "low_res_tower.pre_layrnorm", vision.layer_norm_eps)
    for index in range(vision.num_hidden_layers):
        x = clip_layer(vision, weights, index, x)
    return torch.cat([x[1:], made.flatten(0, 1)], dim=1)
