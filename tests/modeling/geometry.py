# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Random image inputs of the encoder with given grids, made without the processor."""

import torch

from tests.helpers import HIGH_RES_TILE, TILE

# The five canvases of FILA, stage 1's single view, and an image narrower than its canvas.
GRIDS = [(1, 2), (2, 1), (2, 2), (3, 1), (1, 3), (1, 1)]


def encoder_inputs(
    grids: list[tuple[int, int]], *, seed: int = 0, high_res: bool = True, dtype: torch.dtype = torch.float32
) -> dict[str, torch.Tensor]:
    """One image per grid: an overview and the tiles, or a single view for (1, 1).

    Content boxes leave margins that are not whole cells, as real images do.
    """
    generator = torch.Generator().manual_seed(seed)
    max_views = max(rows * cols + (rows * cols > 1) for rows, cols in grids)
    height, width = max(r for r, _ in grids) * HIGH_RES_TILE, max(c for _, c in grids) * HIGH_RES_TILE
    pixels = torch.zeros(len(grids), max_views, 3, TILE, TILE, dtype=dtype)
    canvases = torch.zeros(len(grids), 3, height, width, dtype=dtype)
    boxes = torch.zeros(len(grids), max_views, 4, dtype=torch.int64)
    for index, (rows, cols) in enumerate(grids):
        views = [(r * TILE, c * TILE, (r + 1) * TILE, (c + 1) * TILE) for r in range(rows) for c in range(cols)]
        if rows * cols > 1:
            views.insert(0, (3, 1, rows * TILE - 2, cols * TILE - 4))
        boxes[index, : len(views)] = torch.tensor(views)
        pixels[index, : len(views)] = torch.randn(len(views), 3, TILE, TILE, generator=generator, dtype=dtype)
        canvas = torch.randn(3, rows * HIGH_RES_TILE, cols * HIGH_RES_TILE, generator=generator, dtype=dtype)
        canvases[index, :, : canvas.shape[1], : canvas.shape[2]] = canvas
    inputs = {"pixel_values": pixels, "view_boxes": boxes, "tile_grid": torch.tensor(grids)}
    if high_res:
        inputs["high_res_pixel_values"] = canvases
        inputs["high_res_sizes"] = torch.tensor(grids) * HIGH_RES_TILE
    return inputs
