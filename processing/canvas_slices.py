# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Rules of LLaVA-UHD and MiniCPM-V: the number, the grid and the size of slices.

Papers: Xu et al., "LLaVA-UHD", arXiv:2403.11703, section 3.1; Yao et al., "MiniCPM-V", arXiv:2408.01800, section 3.2.
Code: openbmb/MiniCPM-V-2_6 `image_processing_minicpmv.py`; thunlp/LLaVA-UHD, branch LLaVA-UHD-v1 @ dd7f6cc,
`slice_image_minicpm`.

An image of more than R x R pixels is cut in about as many slices as squares of R pixels fill it, in the grid nearest
to its aspect ratio. The image is stretched to whole slices, each of about R x R pixels with sides of whole patches; an
overview of about R x R pixels goes with them. A smaller image is one view, enlarged to about R x R pixels.

Doubles, truncation and rounding are as in the source; the two systems differ in how a side becomes whole patches.
"""

import functools
from collections.abc import Callable
from math import ceil, log, sqrt

from .canvas_plan import Box, CanvasPlan, Size, Views, check_count, check_image_size, even_tile_boxes

WholePatches = Callable[[float, int], int]


def rounded(length: float, divisor: int) -> int:
    """Return the nearest positive multiple of `divisor`; halves go to the even one.

    Example:
        >>> rounded(35, 14), rounded(49, 14), rounded(3, 14)
        (28, 56, 14)
    """
    return round(length / divisor) * divisor or divisor


def floored(length: float, divisor: int) -> int:
    """Return the largest multiple of `divisor` up to `length`, at least one.

    Example:
        >>> floored(41.9, 14), floored(3, 14)
        (28, 14)
    """
    return int(length // divisor) * divisor or divisor


def slice_grid(height: int, width: int, *, resolution: int, max_slices: int) -> tuple[int, int] | None:
    """Return the grid of the slices, (rows, cols), or None for an image that is not cut.

    Counts around pixels / resolution^2 are tried; the first of the smallest |ln(w / h) - ln(cols / rows)| wins.

    Example:
        >>> slice_grid(800, 1300, resolution=448, max_slices=9)
        (2, 3)
    """
    # `pixels / R^2` in doubles as in the source; its ceiling decides at whole multiples.
    count = min(ceil(width * height / (resolution * resolution)), max_slices)
    if count <= 1:
        return None
    log_ratio = log(width / height)
    best, least = (1, 1), float("inf")
    for log_candidate, tile_grid in _candidates(count, max_slices):
        error = abs(log_ratio - log_candidate)
        if error < least:
            best, least = tile_grid, error
    return best


@functools.lru_cache(maxsize=256)
def _candidates(count: int, max_slices: int) -> tuple[tuple[float, tuple[int, int]], ...]:
    """Return ln(cols / rows) and (rows, cols) of the candidate grids, in their order."""
    return tuple(
        (log(cols / (slices // cols)), (slices // cols, cols))
        for slices in (count - 1, count, count + 1)
        if 1 < slices <= max_slices
        for cols in range(1, slices + 1)
        if slices % cols == 0
    )


def resized_to_area(
    height: float, width: float, resolution: int, patch_size: int, whole_patches: WholePatches, enlarge: bool
) -> Size:
    """Return a size of about resolution^2 pixels at the aspect ratio of `height` x `width`, in whole patches.

    An image with fewer pixels keeps its size unless `enlarge`.

    Example:
        >>> resized_to_area(2, 3, 448, 14, rounded, True)
        Size(height=364, width=546)
    """
    if enlarge or width * height > resolution * resolution:
        ratio = width / height
        height = int(resolution / sqrt(ratio))
        width = int(height * ratio)  # of the height that is truncated already, as in the source
    return Size(whole_patches(height, patch_size), whole_patches(width, patch_size))


def capped(size: Size, patch_size: int, max_patches: int | None) -> Size:
    """Shorten the long side until the view has at most `max_patches` patches (None: no limit)."""
    if max_patches is None:
        return size
    rows, cols = size.height // patch_size, size.width // patch_size
    if rows * cols <= max_patches:
        return size
    if rows > cols:
        cols = min(cols, int(sqrt(max_patches)))
        rows = max_patches // cols
    else:
        rows = min(rows, int(sqrt(max_patches)))
        cols = max_patches // rows
    return Size(rows * patch_size, cols * patch_size)


def sliced_views(
    height: int,
    width: int,
    *,
    resolution: int,
    patch_size: int,
    max_slices: int,
    max_view_area: int | None,
    whole_patches: WholePatches,
) -> Views:
    """Return the grid and the size of an image's slices, and the overview's size.

    Args:
        height: Pixels of the image.
        width: Pixels of the image.
        resolution: R, pixels.
        patch_size: Pixels per side of a patch, or of a block of patches where sides are whole blocks.
        max_slices: Most slices, the overview not counted.
        max_view_area: Most patches of one view, as a multiple of those of R x R pixels; None: no limit, as in the
            sources, where 10000x1 pixels are one view of 2857 patches and 250000x1 one of 5952.
        whole_patches: How a side becomes whole patches, `rounded` or `floored`.
    """
    check_image_size(height, width)
    tile_grid = slice_grid(height, width, resolution=resolution, max_slices=max_slices)
    whole = resized_to_area(height, width, resolution, patch_size, whole_patches, tile_grid is None)
    if max_view_area is not None:
        max_patches = max_view_area * max(resolution // patch_size, 1) ** 2
        if whole[0] * whole[1] > max_patches * patch_size**2:
            whole = capped(whole, patch_size, max_patches)
    if tile_grid is None:
        return (1, 1), whole, None
    rows, cols = tile_grid
    tile_height, tile_width = whole_patches(height, rows) / rows, whole_patches(width, cols) / cols
    tile = resized_to_area(tile_height, tile_width, resolution, patch_size, whole_patches, True)
    if max_view_area is not None and tile[0] * tile[1] > max_patches * patch_size**2:
        tile = capped(tile, patch_size, max_patches)
    return tile_grid, tile, whole


def sliced_plan(height: int, width: int, views: Views) -> CanvasPlan:
    """Build the plan of an image that is stretched to whole slices."""
    tile_grid, tile, overview_size = views
    canvas_size = Size(tile_grid[0] * tile.height, tile_grid[1] * tile.width)
    return CanvasPlan(
        image_size=Size(height, width),
        canvas_size=canvas_size,
        content_box=Box(0, 0, *canvas_size),
        tile_grid=tile_grid,
        tile_boxes=even_tile_boxes(tile_grid, tile),
        overview_size=overview_size,
    )


def check_slicing_options(tile_size: Size, max_slices: int, patch_size: int, max_view_area: int | None) -> None:
    """Check that a slicing strategy's options are positive and the tile is square; raise a `ValueError` otherwise."""
    check_count("max_slices", max_slices)
    check_count("patch_size", patch_size)
    check_count("max_view_area", max_view_area, optional=True)
    if tile_size.height != tile_size.width:
        raise ValueError(f"Slices need a square `size`; got {tile_size.height}x{tile_size.width}.")
