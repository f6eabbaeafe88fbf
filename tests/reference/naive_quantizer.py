# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Slow twin of the multi-scale quantiser, written from the equations: one image, one cell at a time, plain sums."""

import math

import torch

from tests.reference.naive_layers import Weights

Grid = tuple[int, int]


def area(maps: torch.Tensor, grid: Grid) -> torch.Tensor:
    """`(C, H, W) -> (C, h, w)`: cell (i, j) is the mean of rows floor(i H/h) to ceil((i+1) H/h), columns alike."""
    (_, height, width), (rows, cols) = maps.shape, grid
    cells = []
    for i in range(rows):
        top, bottom = i * height // rows, -((i + 1) * height // -rows)
        row = [maps[:, top:bottom, j * width // cols : -((j + 1) * width // -cols)] for j in range(cols)]
        cells.append(torch.stack([cell.sum((1, 2)) / cell[0].numel() for cell in row], dim=-1))
    return torch.stack(cells, dim=1)


def cubic(distance: float, a: float = -0.75) -> float:
    """Keys' kernel."""
    d = abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def bicubic_matrix(length: int, target: int) -> torch.Tensor:
    """`(target, length)` weights of one axis; what lies beyond the edge has the edge's value."""
    weights = torch.zeros(target, length, dtype=torch.float64)
    for i in range(target):
        place = (i + 0.5) * length / target - 0.5
        for k in range(math.floor(place) - 1, math.floor(place) + 3):
            weights[i, min(max(k, 0), length - 1)] += cubic(place - k)
    return weights


def bicubic(maps: torch.Tensor, grid: Grid) -> torch.Tensor:
    """`(C, h, w) -> (C, H, W)`."""
    rows, cols = bicubic_matrix(maps.shape[1], grid[0]), bicubic_matrix(maps.shape[2], grid[1])
    return torch.einsum("ih,chw,jw->cij", rows, maps, cols)


def conv3x3(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """`(C, H, W) -> (D, H, W)`, zero beyond the edge."""
    _, height, width = x.shape
    padded = torch.zeros(x.shape[0], height + 2, width + 2, dtype=x.dtype)
    padded[:, 1:-1, 1:-1] = x
    shifted = [
        weight[:, :, i, j] @ padded[:, i : i + height, j : j + width].flatten(1) for i in range(3) for j in range(3)
    ]
    return (sum(shifted) + bias[:, None]).unflatten(1, (height, width))


def nearest(vector: torch.Tensor, codes: torch.Tensor, *, cosine: bool) -> int:
    """One vector against one code after the other."""
    best, best_score = -1, math.inf
    for index, code in enumerate(codes):
        angle = -float(vector @ code / vector.norm() / code.norm())
        score = angle if cosine else float(((vector - code) ** 2).sum())
        if score < best_score:
            best, best_score = index, score
    return best


def naive_quantize(
    weights: Weights, f: torch.Tensor, grids: list[Grid], phis: list[int], *, ratio: float, beta: float, cosine: bool
) -> tuple[list[list[int]], list[torch.Tensor], torch.Tensor]:
    """Quantise one map `(C, H, W)`; `phis[k]` is the phi of scale k.

    Returns:
        Ids per scale, fhat after each scale, and the loss.
    """
    codes = weights["embedding.weight"]
    rest, fhat = f.detach(), torch.zeros_like(f)
    all_ids, maps, loss = [], [], torch.zeros((), dtype=f.dtype)
    for k, grid in enumerate(grids):
        pooled = area(rest, grid) if k < len(grids) - 1 else rest
        ids = [nearest(vector, codes.detach(), cosine=cosine) for vector in pooled.flatten(1).T]
        h = torch.stack([codes[i] for i in ids], dim=1).unflatten(1, grid)
        if k < len(grids) - 1:
            h = bicubic(h, grids[-1])
        h = (1 - ratio) * h + ratio * conv3x3(h, weights[f"phis.{phis[k]}.weight"], weights[f"phis.{phis[k]}.bias"])
        fhat = fhat + h
        rest = rest - h.detach()
        all_ids.append(ids)
        maps.append(fhat)
        loss = loss + beta * ((fhat.detach() - f) ** 2).mean() + ((fhat - f.detach()) ** 2).mean()
    return all_ids, maps, loss / len(grids)
