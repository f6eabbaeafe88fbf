# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Windows of 2 x 2 features, in which mergers join the features of a view.

Shapes: T views, L features of the largest view, (r, c) grid of a view, D width.
"""

import torch

from .view_patch_grid import Grid

WINDOW = 2


def halved(grid: Grid) -> Grid:
    """Return the grid of the windows; it must be of whole windows."""
    return grid // WINDOW if isinstance(grid, torch.Tensor) else (grid[0] // WINDOW, grid[1] // WINDOW)


def windows(features: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Cut each view's features into windows, row by row; the four of a window are row by row too.

    Args:
        features: `(T, L, D)`, row by row.
        grid: (rows, cols) of all views, or `(T, 2)` int, one grid per view; of even numbers.

    Returns:
        `(T, L // 4, 4, D)`; windows beyond those of a view's grid are padding of any values.

    Example:
        >>> windows(torch.arange(8.0).reshape(1, 8, 1), (2, 4))[0, :, :, 0].tolist()
        [[0.0, 1.0, 4.0, 5.0], [2.0, 3.0, 6.0, 7.0]]
    """
    length, width = features.shape[1:]
    count = length // WINDOW**2
    if isinstance(grid, torch.Tensor):
        return features.flatten(0, 1)[_window_index(grid.to(features.device), length, count)]
    rows, cols = halved(grid)
    blocks = features.reshape(-1, rows, WINDOW, cols, WINDOW, width).transpose(2, 3)
    return blocks.reshape(-1, count, WINDOW**2, width)


def _window_index(grids: torch.Tensor, length: int, count: int) -> torch.Tensor:
    """Return `(T, count, 4)` int64: the rows that the windows hold of `(T * length, D)`."""
    number = torch.arange(count, device=grids.device)[None]
    cols = grids[:, 1:]
    corner = number // (cols // WINDOW) * WINDOW * cols + number % (cols // WINDOW) * WINDOW
    members = corner[..., None] + torch.stack([cols * 0, cols * 0 + 1, cols, cols + 1], dim=-1)
    exists = (number < grids.prod(dim=1, keepdim=True) // WINDOW**2)[..., None]
    first = torch.arange(len(grids), device=grids.device)[:, None, None] * length
    return first + torch.where(exists, members, 0)
