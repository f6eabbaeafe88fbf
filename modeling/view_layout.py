# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Which views of a batch belong to one image, and where they lie on it."""

from dataclasses import dataclass
from typing import Any

import torch

_FIX = "Pass the processor's output unchanged."


@dataclass(frozen=True)
class ViewLayout:
    """The T views of a batch, image by image; of each image the overview first, then the tiles row by row.

    Args:
        num_views: Views of each image.
        tile_grids: (rows, cols) of each image's tiles. An image with one view more than tiles has an overview.

    Raises:
        ValueError: If an image has other views than its tiles and an overview.
    """

    num_views: tuple[int, ...]
    tile_grids: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        if len(self.num_views) != len(self.tile_grids):
            raise ValueError(
                f"`tile_grid` must have one row per image; it has {len(self.tile_grids)} for {len(self.num_views)} "
                f"images in `view_boxes`. {_FIX}"
            )
        for index, (views, (rows, cols)) in enumerate(zip(self.num_views, self.tile_grids, strict=True)):
            if views - rows * cols not in (0, 1):
                raise ValueError(
                    f"Image {index} must have the {rows}x{cols} tiles of its `tile_grid`, and one view more where "
                    f"there is an overview; its `view_boxes` hold {views} views. {_FIX}"
                )

    def positions(self, device: torch.device) -> torch.Tensor:
        """Row and column of every view, `(T, 2)` int64: tiles count from 1, an overview is at (0, 0)."""
        found: list[tuple[int, int]] = []
        for views, (rows, cols) in zip(self.num_views, self.tile_grids, strict=True):
            found += [(0, 0)] * (views - rows * cols)
            found += [(row + 1, col + 1) for row in range(rows) for col in range(cols)]
        return torch.tensor(found, device=device)


def check_views(config: Any, pixel_values: Any, num_views: list[int], *, are_packed: bool) -> None:
    """Check that every view is there, in the size that the model has; nothing else would tell.

    Args:
        config: The `FilaConfig`.
        pixel_values: `(I, V, 3, S, S)`, or `(I, V, 3, p, L * p)` with the patches of a view side by side; or a
            list with one tensor per image.
        num_views: Views of each image.
        are_packed: Whether patches lie side by side.

    Raises:
        ValueError: Naming the first image that is wrong.
    """
    if len(pixel_values) != len(num_views):
        raise ValueError(
            f"`pixel_values` must have one row per image; it has {len(pixel_values)} for {len(num_views)} images in "
            f"`view_boxes`. {_FIX}"
        )
    side, named, fix = config.tile_size, "views", "the model's `tile_size` or the image processor's `size`"
    if are_packed:
        side, named, fix = side // config.patch_grid[0], "patches", "`patch_size` of the processor's `canvas`"
    for index, (pixels, count) in enumerate(zip(pixel_values, num_views, strict=True)):
        if len(pixels) < count:
            raise ValueError(
                f"Image {index} has {count} views by its `view_boxes`; `pixel_values` holds {len(pixels)}. {_FIX}"
            )
        height, width = pixels.shape[-2:]
        if height != side or (width != side and not are_packed):
            found = f"{height}x{height if are_packed else width}"
            raise ValueError(
                f"The {named} of image {index} must have {side}x{side} pixels; `pixel_values` holds {found}. Load "
                f"processor and model from one checkpoint, or set {fix}."
            )
