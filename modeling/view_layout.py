# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Which views of a batch belong to one image, and where they lie on it."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class ViewLayout:
    """The T views of a batch, image by image; of each image the overview first, then the tiles row by row.

    Args:
        num_views: Views of each image.
        tile_grids: (rows, cols) of each image's tiles. An image with one view more than tiles has an overview.
    """

    num_views: tuple[int, ...]
    tile_grids: tuple[tuple[int, int], ...]

    def positions(self, device: torch.device) -> torch.Tensor:
        """Row and column of every view, `(T, 2)` int64: tiles count from 1, an overview is at (0, 0)."""
        found: list[tuple[int, int]] = []
        for views, (rows, cols) in zip(self.num_views, self.tile_grids, strict=True):
            found += [(0, 0)] * (views - rows * cols)
            found += [(row + 1, col + 1) for row in range(rows) for col in range(cols)]
        return torch.tensor(found, device=device)
