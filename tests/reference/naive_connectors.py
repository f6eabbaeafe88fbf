# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Slow twins of the connectors, one view and one token at a time: `(P, D) -> (N, M)`."""

import math

import torch
import torch.nn.functional as F

from tests.reference.naive_layers import Weights, attention, gelu, layer_norm, linear, packed_attention, sincos

WINDOWS = ((4, 2), (3, 2), (4, 3), (3, 3), (2, 4), (2, 3), (3, 4))  # (width, height), in the source's order


def naive_mlp(weights: Weights, x: torch.Tensor, depth: int) -> torch.Tensor:
    if "input_norm.weight" in weights:
        x = layer_norm(x, weights, "input_norm", 1e-5)
    for number in range(1, depth + 1):
        x = linear(x if number == 1 else gelu(x), weights, f"linear_{number}")
    return layer_norm(x, weights, "output_norm", 1e-5) if "output_norm.weight" in weights else x


def naive_pixel_shuffle(
    weights: Weights, x: torch.Tensor, rows: int, cols: int, factor: int, order: str
) -> torch.Tensor:
    grid = x.unflatten(0, (rows, cols))
    tokens = {}
    for r in range(rows // factor):
        for c in range(cols // factor):
            block = grid[r * factor : (r + 1) * factor, c * factor : (c + 1) * factor].flatten(0, 1)
            # channel_first: all patches of the first channel, then all of the second
            tokens[r, c] = (block.T if order == "channel_first" else block).flatten()
    places = sorted(tokens, key=lambda place: place[::-1] if order == "v1" else place)
    shuffled = layer_norm(torch.stack([tokens[place] for place in places]), weights, "norm", 1e-5)
    return linear(gelu(linear(shuffled, weights, "linear_1")), weights, "linear_2")


def projected(weights: Weights, x: torch.Tensor) -> torch.Tensor:
    x = x @ weights["kv_proj.weight"].T if "kv_proj.weight" in weights else x
    return layer_norm(x, weights, "ln_kv", 1e-6)


def naive_resampler(weights: Weights, x: torch.Tensor, rows: int, cols: int, num_heads: int) -> torch.Tensor:
    value = projected(weights, x[: rows * cols])
    key = value + torch.stack([sincos(r, c, value.shape[1]) for r in range(rows) for c in range(cols)])
    query = layer_norm(weights["query"], weights, "ln_q", 1e-6)
    attended = packed_attention(query, key, value, num_heads, weights, "attn")
    return layer_norm(attended, weights, "ln_post", 1e-6) @ weights["proj"]


def sample(grid: torch.Tensor, y: float, x: float) -> torch.Tensor:
    """Bilinear value of `(r, c, M)` at a place, as RoIAlign reads it."""
    rows, cols = grid.shape[:2]
    if y < -1 or y > rows or x < -1 or x > cols:
        return torch.zeros_like(grid[0, 0])
    y, x = max(y, 0.0), max(x, 0.0)
    top, left = min(int(y), rows - 1), min(int(x), cols - 1)
    y, x = (float(top) if top == rows - 1 else y), (float(left) if left == cols - 1 else x)
    bottom, right = min(top + 1, rows - 1), min(left + 1, cols - 1)
    upper = grid[top, left] * (1 - (x - left)) + grid[top, right] * (x - left)
    lower = grid[bottom, left] * (1 - (x - left)) + grid[bottom, right] * (x - left)
    return upper * (1 - (y - top)) + lower * (y - top)


def roi_align(
    grid: torch.Tensor, top: float, left: float, bottom: float, right: float, height: int, width: int
) -> torch.Tensor:
    """`(r, c, M) -> (height width, M)`: not aligned, adaptive sampling."""
    roi_h, roi_w = max(bottom - top, 1.0), max(right - left, 1.0)
    samples_h, samples_w = math.ceil(roi_h / height), math.ceil(roi_w / width)
    cells = []
    for i in range(height):
        for j in range(width):
            total = torch.zeros_like(grid[0, 0])
            for a in range(samples_h):
                for b in range(samples_w):
                    y = top + i * roi_h / height + (a + 0.5) * roi_h / height / samples_h
                    x = left + j * roi_w / width + (b + 0.5) * roi_w / width / samples_w
                    total = total + sample(grid, y, x)
            cells.append(total / (samples_h * samples_w))
    return torch.stack(cells)


def naive_adaptive_resampler(
    weights: Weights, x: torch.Tensor, rows: int, cols: int, grid_size: int, num_heads: int
) -> torch.Tensor:
    value = projected(weights, x[: rows * cols])
    table = weights["pos_embed"].unflatten(0, (grid_size, grid_size)).permute(2, 0, 1)[None]
    positions = F.interpolate(table, size=(rows, cols), mode="bicubic", align_corners=False)[0].flatten(1).T
    grids = [y.unflatten(0, (rows, cols)) for y in (value + positions, value)]
    best = None
    for width, height in WINDOWS:
        distance = abs(math.log(cols / rows) - math.log(width / height))
        if best is None or distance < best[0]:
            best = (distance, height, width)
    assert best is not None
    query = layer_norm(weights["query"], weights, "ln_q", 1e-6) + weights["pos_embed"]
    tokens = []
    for i in range(grid_size):
        for j in range(grid_size):
            box = [i * rows, j * cols, (i + 1) * rows, (j + 1) * cols]
            key, values = (roi_align(y, *[edge / grid_size for edge in box], *best[1:]) for y in grids)
            attended = packed_attention(query[i * grid_size + j][None], key, values, num_heads, weights, "attn")
            tokens.append(attended[0])
    return layer_norm(torch.stack(tokens), weights, "ln_post", 1e-6) @ weights["proj"]


def naive_window_qformer(
    weights: Weights,
    x: torch.Tensor,
    grid: tuple[int, int],
    *,
    query: int,
    window: int,
    corner: int | None,
    heads: int,
) -> torch.Tensor:
    rows, cols = grid
    y = layer_norm(x, weights, "norm", 1e-6).unflatten(0, grid)
    step = window // query  # patches per side of a query's cell
    tokens: dict[tuple[int, int], torch.Tensor] = {}
    for top in range(0, rows, window):
        for left in range(0, cols, window):
            starts = []
            for r in range(top, top + window, step):
                for c in range(left, left + window, step):
                    cell = [y[r + i, c + j] for i in range(step) for j in range(step)]
                    starts.append(sum(cell) / len(cell) if corner is None else cell[corner])
            h = layer_norm(weights["query"][0] + torch.stack(starts), weights, "qformer.layernorm", 1e-12)
            patches = y[top : top + window, left : left + window].flatten(0, 1) + weights["image_positions"][0]
            number = 0
            while f"qformer.encoder.layer.{number}.attention.attention.query.weight" in weights:
                name = f"qformer.encoder.layer.{number}."
                for part, keys in (("attention", None), ("crossattention", patches)):
                    source = h if keys is None else keys
                    q, k, v = (
                        linear(z, weights, f"{name}{part}.attention.{kind}")
                        for z, kind in ((h, "query"), (source, "key"), (source, "value"))
                    )
                    out = linear(attention(q, k, v, heads), weights, f"{name}{part}.output.dense")
                    h = layer_norm(out + h, weights, f"{name}{part}.output.LayerNorm", 1e-12)
                wide = gelu(linear(h, weights, f"{name}intermediate_query.dense"))
                out = linear(wide, weights, f"{name}output_query.dense")
                h = layer_norm(out + h, weights, f"{name}output_query.LayerNorm", 1e-12)
                number += 1
            for n, token in enumerate(linear(h, weights, "out_linear")):
                tokens[top // window * query + n // query, left // window * query + n % query] = token
    return torch.stack([tokens[place] for place in sorted(tokens)])
