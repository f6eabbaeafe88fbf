# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Learned positions from a square table for views of any patch grid: interpolated, or selected by buckets.

Shapes: T views, L patches of the largest view, S rows and columns of the table, D width.
"""

import torch
import torch.nn.functional as F

RULES = ("bicubic", "bicubic_antialias", "buckets")


def interpolated_positions(
    table: torch.Tensor, patch_grid: tuple[int, int], *, antialias: bool = False
) -> torch.Tensor:
    """Return the positions of one view by bicubic interpolation of the table.

    Args:
        table: `(S * S, D)` float, row-major.
        patch_grid: (rows, cols).
        antialias: Whether shrinking averages. Enlarging changes too: antialiasing uses another bicubic kernel.

    Returns:
        `(rows * cols, D)`, dtype of `table`; the table itself for a grid of S x S.

    Source: transformers `CLIPVisionEmbeddings.interpolate_pos_encoding`; LLaVA-UHD v1 `resize_pos_embedding`; with
    antialiasing LLaVA-HR `resample_pos_embed`.
    """
    side = round(table.shape[0] ** 0.5)
    if patch_grid == (side, side):
        return table
    square = table.float().T.reshape(1, -1, side, side)
    resized = F.interpolate(square, size=patch_grid, mode="bicubic", align_corners=False, antialias=antialias)
    return resized.flatten(2)[0].T.to(table.dtype)


def bucket_ids(count: int, side: int) -> torch.Tensor:
    """Return the table's rows (or columns) for the `count` patches of an axis.

    Patch i takes floor(i * side / count), except where single precision rounds differently. We keep that: `count` is a
    tensor in the source, so that the step is rounded to single precision before the range is built.

    Args:
        count: Patches of the axis.
        side: S.

    Returns:
        `(count,)` int64.

    Source: MiniCPM-V 2.6 `modeling_navit_siglip.py::SiglipVisionEmbeddings`, operation by operation.
    """
    boundaries = torch.arange(1 / side, 1.0, 1 / side, dtype=torch.float32)
    step = 1 / torch.tensor(count, dtype=torch.float32)
    fractions = torch.arange(0, 1 - 1e-6, step.item(), dtype=torch.float32)
    return torch.bucketize(fractions, boundaries, right=True)


def bucket_position_ids(patch_grids: torch.Tensor, side: int, length: int) -> torch.Tensor:
    """Return the table's entry for each patch of each view; 0 for padding.

    Args:
        patch_grids: `(T, 2)` int, (rows, cols).
        side: S.
        length: L.

    Returns:
        `(T, L)` int64 on the device of `patch_grids`.
    """
    ids = torch.zeros(len(patch_grids), length, dtype=torch.int64)
    for row, (rows, cols) in zip(ids, patch_grids.tolist(), strict=True):
        row[: rows * cols] = (bucket_ids(rows, side)[:, None] * side + bucket_ids(cols, side)).flatten()
    return ids.to(patch_grids.device)


def view_positions(table: torch.Tensor, patch_grid: tuple[int, int], rule: str) -> torch.Tensor:
    """Return the positions of a view's patches, `(rows * cols, D)`, by one of `RULES`."""
    if rule == "buckets":
        side = round(table.shape[0] ** 0.5)
        grid = torch.tensor([patch_grid])
        return table[bucket_position_ids(grid, side, patch_grid[0] * patch_grid[1])[0].to(table.device)]
    return interpolated_positions(table, patch_grid, antialias=rule == "bicubic_antialias")


def add_positions(
    patches: torch.Tensor,
    table: torch.Tensor,
    rule: str,
    patch_grid: tuple[int, int] | None,
    patch_grids: torch.Tensor | None = None,
) -> torch.Tensor:
    """Add positions to the patches of views that share one grid or have one grid each.

    Args:
        patches: `(T, L, D)` float.
        table: `(S * S, D)` float.
        rule: One of `RULES`.
        patch_grid: (rows, cols) of all views.
        patch_grids: `(T, 2)` int, (rows, cols) of each view; in place of `patch_grid`.

    Returns:
        `(T, L, D)`; padding gets no position, or with `buckets` the first, as in MiniCPM-V.
    """
    if patch_grids is None:
        assert patch_grid is not None
        return patches + view_positions(table, patch_grid, rule)
    if rule == "buckets":
        side = round(table.shape[0] ** 0.5)
        return patches + table[bucket_position_ids(patch_grids, side, patches.shape[1]).to(table.device)]
    found: dict[tuple[int, int], torch.Tensor] = {}
    rows = []
    for grid in patch_grids.tolist():
        key = grid[0], grid[1]
        if key not in found:
            missing = patches.shape[1] - key[0] * key[1]
            found[key] = F.pad(view_positions(table, key, rule), (0, 0, 0, missing))
        rows.append(found[key])
    return patches + torch.stack(rows)


def patch_mask(patch_grids: torch.Tensor, length: int) -> torch.Tensor:
    """Return the mask `(T, L)` bool, true for patches that exist among the `length` of each view."""
    counts = patch_grids.prod(dim=-1, keepdim=True)
    return torch.arange(length, device=patch_grids.device) < counts
