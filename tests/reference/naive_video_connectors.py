# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Slow twins of the connectors that join frames: one clip, a cell of the output at a time, `(F, P, D) -> (N, M)`."""

import torch

from tests.reference.naive_layers import Weights, gelu, layer_norm, linear, sigmoid

Cells = dict[tuple[int, int], torch.Tensor]  # one map: (row, col) -> (C,)


def silu(x: torch.Tensor) -> torch.Tensor:
    return x * sigmoid(x)


def cells_of(features: torch.Tensor, cols: int) -> Cells:
    return {divmod(place, cols): feature for place, feature in enumerate(features)}


def conv_norm(weights: Weights, name: str, cells: Cells) -> Cells:
    """1x1 or depthwise 3x3 convolution and the norm over channels."""
    kernel = weights[f"{name}.conv.weight"]
    found = {}
    for (row, col), x in cells.items():
        if kernel.shape[2] == 1:
            y = kernel[:, :, 0, 0] @ x
        else:
            y = torch.zeros_like(x)
            for i in range(3):
                for j in range(3):
                    if (row + i - 1, col + j - 1) in cells:
                        y = y + kernel[:, 0, i, j] * cells[row + i - 1, col + j - 1]
        found[row, col] = layer_norm(y[None], weights, f"{name}.bn", 1e-5)[0]
    return found


def naive_reg_block(weights: Weights, name: str, cells: Cells) -> Cells:
    y = {place: silu(x) for place, x in conv_norm(weights, f"{name}.conv1", cells).items()}
    y = {place: silu(x) for place, x in conv_norm(weights, f"{name}.conv2", y).items()}
    mean = sum(y.values(), torch.zeros(())) / len(y)
    hidden = silu(weights[f"{name}.se.fc1.weight"][:, :, 0, 0] @ mean + weights[f"{name}.se.fc1.bias"])
    gate = sigmoid(weights[f"{name}.se.fc2.weight"][:, :, 0, 0] @ hidden + weights[f"{name}.se.fc2.bias"])
    y = conv_norm(weights, f"{name}.conv3", {place: x * gate for place, x in y.items()})
    if f"{name}.downsample.conv.weight" in weights:
        cells = conv_norm(weights, f"{name}.downsample", cells)
    return {place: silu(y[place] + x) for place, x in cells.items()}


def naive_reg_stage(weights: Weights, name: str, cells: Cells, depth: int) -> Cells:
    for number in range(1, depth + 1):
        cells = naive_reg_block(weights, f"{name}.b{number}", cells)
    return cells


def naive_stc(
    weights: Weights,
    clip: torch.Tensor,
    grid: tuple[int, int],
    *,
    downsample: tuple[int, int, int],
    padding: int,
    depth: int,
    mlp_depth: int,
) -> torch.Tensor:
    frames = [naive_reg_stage(weights, "s1", cells_of(frame, grid[1]), depth) for frame in clip]
    sizes = [(n + 2 * padding - k) // k + 1 for n, k in zip((len(clip), *grid), downsample, strict=True)]
    kernel = weights.get("sampler.0.weight")
    tokens = []
    for t in range(sizes[0]):
        sampled = {}
        for r in range(sizes[1]):
            for c in range(sizes[2]):
                total = torch.zeros_like(frames[0][0, 0])
                for i in range(downsample[0]):
                    for j in range(downsample[1]):
                        for k in range(downsample[2]):
                            starts = t * downsample[0] + i, r * downsample[1] + j, c * downsample[2] + k
                            frame, row, col = (start - padding for start in starts)
                            if not 0 <= frame < len(clip) or (row, col) not in frames[frame]:
                                continue
                            x = frames[frame][row, col]
                            size = downsample[0] * downsample[1] * downsample[2]
                            total = total + (x / size if kernel is None else kernel[:, :, i, j, k] @ x)
                sampled[r, c] = silu(total if kernel is None else total + weights["sampler.0.bias"])
        done = naive_reg_stage(weights, "s2", sampled, depth)
        tokens += [done[place] for place in sorted(done)]
    x = torch.stack(tokens)
    for number in range(mlp_depth):
        x = linear(gelu(x) if number else x, weights, f"readout.{2 * number}")
    return x


def naive_conv_glu(weights: Weights, view: torch.Tensor, grid: tuple[int, int], scaling_factor: float) -> torch.Tensor:
    cells = cells_of(view, grid[1])
    rows = []
    for r in range(grid[0] // 2):
        for c in range(grid[1] // 2):
            x = weights["conv.bias"]
            for i in range(2):
                for j in range(2):
                    x = x + weights["conv.weight"][:, :, i, j] @ cells[2 * r + i, 2 * c + j]
            rows.append(weights["linear_proj.linear_proj.weight"] @ x)
    x = gelu(layer_norm(torch.stack(rows), weights, "linear_proj.norm1", 1e-5))
    gate = silu(x @ weights["linear_proj.gate_proj.weight"].T)
    x = (gate * (x @ weights["linear_proj.dense_h_to_4h.weight"].T)) @ weights["linear_proj.dense_4h_to_h.weight"].T
    if "boi" in weights:
        x = torch.cat([weights["boi"][0], x, weights["eoi"][0]])
    return x / scaling_factor


def naive_dual_path(
    weights: Weights, clip: torch.Tensor, grid: tuple[int, int], *, pool: int, causal: bool
) -> torch.Tensor:
    frames = [cells_of(frame, grid[1]) for frame in clip]
    spatial, temporal = weights["spatial.weight"], weights["temporal.weight"]
    tokens = []
    for t, cells in enumerate(frames):
        mixed = {}
        for row, col in cells:
            detail, motion = weights["spatial.bias"], weights["temporal.bias"]
            for i in range(7):
                for j in range(7):
                    if (row + i - 3, col + j - 3) in cells:
                        detail = detail + spatial[:, :, 0, i, j] @ cells[row + i - 3, col + j - 3]
            for i in range(3):
                other = t + i - (2 if causal else 1)
                if 0 <= other < len(frames):
                    motion = motion + temporal[:, :, i, 0, 0] @ frames[other][row, col]
            detail, motion = silu(detail), silu(motion)
            gate = sigmoid(linear(torch.cat([detail, motion]), weights, "gate"))
            mixed[row, col] = gate * detail + (1 - gate) * motion
        for r in range(grid[0] // pool):
            for c in range(grid[1] // pool):
                block = [mixed[r * pool + i, c * pool + j] for i in range(pool) for j in range(pool)]
                tokens.append(linear(torch.stack(block).mean(dim=0), weights, "linear"))
    return torch.stack(tokens)
