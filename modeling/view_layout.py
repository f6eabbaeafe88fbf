# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The views of each image of a batch, their positions on it, and the chunks that are encoded together."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .configuration_fila import FilaConfig

_FIX = "Pass the processor's output unchanged."
# Most views that are encoded together outside training. Training keeps its activations anyway.
VIEWS_PER_CHUNK = 32
# The same for frames of videos.
FRAMES_PER_CHUNK = 32
# Outputs of the video processor, by the encoder's name for them.
VIDEO_INPUTS = {
    "pixel_values": "pixel_values_videos",
    "view_boxes": "video_view_boxes",
    "tile_grid": "video_tile_grid",
    "high_res_pixel_values": "video_high_res_pixel_values",
    "high_res_sizes": "video_high_res_sizes",
    "patch_grids": "video_patch_grids",
}


@dataclass(frozen=True)
class ViewLayout:
    """The T views of a batch, image by image; of each image the overview first, then the tiles row by row.

    Args:
        num_views: Views of each image.
        tile_grids: (rows, cols) of each image's tiles. An image with one view more than tiles has an overview.

    Raises:
        ValueError: If an image's views are not its tiles with or without an overview.
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
        """Return row and column of each view, `(T, 2)` int64: tiles count from 1, an overview is at (0, 0)."""
        found: list[tuple[int, int]] = []
        for views, (rows, cols) in zip(self.num_views, self.tile_grids, strict=True):
            found += [(0, 0)] * (views - rows * cols)
            found += [(row + 1, col + 1) for row in range(rows) for col in range(cols)]
        return torch.tensor(found, device=device)


def chunks_of(num_views: int, views_per_chunk: int | None) -> list[slice]:
    """Split a batch's views into chunks of at most `views_per_chunk`; None makes one chunk.

    Raises:
        ValueError: If `views_per_chunk` is not positive.
    """
    if views_per_chunk is not None and views_per_chunk < 1:
        raise ValueError(f"`views_per_chunk` must be at least 1, or None for all views; got {views_per_chunk}.")
    size = views_per_chunk or num_views
    return [slice(first, min(first + size, num_views)) for first in range(0, num_views, size)]


def check_views(
    config: FilaConfig, pixel_values: Sequence[torch.Tensor] | torch.Tensor, num_views: list[int], *, are_packed: bool
) -> None:
    """Check that `pixel_values` holds every view at the model's `tile_size`. No later step detects a wrong size.

    Args:
        config: The `FilaConfig`.
        pixel_values: `(I, V, 3, S, S)`, or `(I, V, 3, p, L * p)` with the patches of a view side by side; or a
            list with one tensor per image.
        num_views: Views of each image.
        are_packed: Whether `pixel_values` holds patches side by side.

    Raises:
        ValueError: If an image is wrong; the message names the first one.
    """
    if len(pixel_values) != len(num_views):
        raise ValueError(
            f"`pixel_values` must have one row per image; it has {len(pixel_values)} for {len(num_views)} images in "
            f"`view_boxes`. {_FIX}"
        )
    side, named, fix = config.tile_size, "views", "the model's `tile_size` or the image processor's `size`"
    if are_packed:
        side, named, fix = config.patch_size, "patches", "`patch_size` of the processor's `canvas`"
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


def packed_views(
    pixel_values: Sequence[torch.Tensor] | torch.Tensor,
    patch_grids: Sequence[torch.Tensor] | torch.Tensor,
    num_views: list[int],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the real views of a batch whose views differ in size.

    Args:
        pixel_values: `(I, V, 3, p, L * p)` float, or one `(V_i, 3, p, L_i * p)` per image: a view's patches side by
            side.
        patch_grids: `(I, V, 2)` int, or one `(V_i, 2)` per image: rows and columns of each view's patches.
        num_views: Views of each image.

    Returns:
        `(T, 3, p, L * p)` and `(T, 2)`.

    Raises:
        ValueError: If a view's patch grid has more patches than its pixels hold, or none.
    """
    grids = [torch.as_tensor(found)[:count] for found, count in zip(patch_grids, num_views, strict=True)]
    pixels = [found[:count] for found, count in zip(pixel_values, num_views, strict=True)]
    length = max(views.shape[-1] for views in pixels)
    for index, (views, found) in enumerate(zip(pixels, grids, strict=True)):
        held = views.shape[-1] // views.shape[-2]
        counts = found.prod(dim=-1)
        if int(counts.min()) < 1 or int(counts.max()) > held:
            raise ValueError(
                f"Image {index} has views of {counts.tolist()} patches by its `patch_grids`, but `pixel_values` holds "
                f"{held} patches per view. {_FIX}"
            )
    padded = [torch.nn.functional.pad(views, (0, length - views.shape[-1])) for views in pixels]
    return torch.cat(padded), torch.cat(grids)
