# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Patch grids of a batch's views, as connectors get them."""

import torch

# (rows, cols) of all views; or `(T, 2)` int64, one grid per view, if they differ: a view then fills the first
# rows x cols of its P features, row by row, and the rest is padding.
Grid = tuple[int, int] | torch.Tensor
# Features of a video that a connector gets: those of each frame, or their mean, see `video_clips.py`.
OVER_TIME = ("each", "mean")


def one_grid(connector: str, grid: Grid) -> tuple[int, int]:
    """Return the grid that all views share, for connectors that require equal views.

    Raises:
        ValueError: If the views' grids differ.
    """
    if isinstance(grid, torch.Tensor):
        found = {(int(rows), int(cols)) for rows, cols in grid.tolist()}
        if len(found) != 1:
            raise ValueError(
                f"Connector {connector!r} needs views of one patch grid; got {sorted(found)}. Use another connector "
                "for slices of any shape, for instance 'resampler' or 'mlp'."
            )
        return found.pop()
    return grid


def blocks_of(patch_grid: tuple[int, int], block: int | None) -> tuple[int, int] | None:
    """Return (rows, cols) of a patch grid in blocks of `block` x `block`; None for None or if patches remain."""
    rows, cols = patch_grid
    return None if block is None or rows % block or cols % block else (rows // block, cols // block)


def patch_positions(grid: Grid, length: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return row, column and validity of each of `length` features.

    Args:
        grid: The grid or grids.
        length: P, features per view, padding included.
        device: Device of the result.

    Returns:
        Three tensors `(T, P)`, or `(1, P)` for one grid: row and column, int64, and whether the feature is a patch.

    Raises:
        ValueError: If a view has more patches than features.
    """
    if isinstance(grid, torch.Tensor):
        grids = grid.to(device)
        largest = int(grid.prod(dim=1).max())
    else:
        grids = torch.tensor([grid], device=device)
        largest = grid[0] * grid[1]
    if largest > length:
        raise ValueError(
            f"A view of {largest} patches needs as many features; got {length} per view. The patch grids, "
            f"(rows, cols), are {grids.tolist()}."
        )
    index = torch.arange(length, device=device)[None]
    cols = grids[:, 1:]
    return index // cols, index % cols, index < grids.prod(dim=1, keepdim=True)
