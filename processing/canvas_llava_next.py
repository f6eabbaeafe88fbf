# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""LLaVA-NeXT's anyres: the listed canvas that keeps most image pixels; aspect ratio kept, centred on black.

Paper: Liu et al., "LLaVA-NeXT: Improved reasoning, OCR, and world knowledge", llava-vl.github.io (January 2024).
Code: transformers, `image_processing_utils.py::select_best_resolution`, `get_patch_output_size` and
`models/llava_next/image_processing_llava_next.py`; equal to LLaVA's own functions.

Choice: most image pixels kept, then fewest canvas pixels wasted, then the order of the list. No canvas of the default
list is a single tile, so a 336x336 image gets 1x2 tiles and the overview.

Resize: the limiting side meets the canvas, the other is rounded up and clipped to the canvas. The image is centred; an
odd slack leaves its extra pixel on the right or at the bottom. The overview is the whole image, without padding,
stretched to one tile.

The prompt layout drops the tokens of padding and ends every row of tokens with a newline (`layout.py`, preset
"llava_next").

Deviations: none, including the arithmetic in doubles (a double product one ulp above a whole number is rounded up, as
in the source).
"""

from collections.abc import Sequence
from math import ceil

from .canvas_plan import Box, CanvasPlan, Size, Views, check_image_size, even_tile_boxes

LLAVA_NEXT_TILE_GRIDS = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))


class LlavaNextCanvas:
    """LLaVA-NeXT's canvas, chosen from a list of tile grids.

    Args:
        tile_size: Pixels of one tile; a canvas is a tile grid times this size.
        tile_grids: The grids to choose from, (rows, cols); earlier ones win ties. They are `image_grid_pinpoints`
            divided by the tile.

    Raises:
        ValueError: If an option has a wrong form.

    Example:
        An image of 336x336 pixels. Every canvas keeps all its pixels; 336x672 and 672x336 waste the fewest, as many
        each. The tie goes to the first of the list.

        >>> LlavaNextCanvas(Size(336, 336))(336, 336).tile_grid
        (1, 2)
    """

    equal_views = True
    tiles_overlap = False
    centred = True

    def __init__(self, tile_size: Size, *, tile_grids: Sequence[Sequence[int]] = LLAVA_NEXT_TILE_GRIDS) -> None:
        self.tile_size = tile_size
        self.canvas_sizes = canvas_sizes_of(tile_grids, tile_size)

    def __call__(self, height: int, width: int) -> CanvasPlan:
        """Plan the canvas of an image of this size."""
        check_image_size(height, width)
        tile_grid, canvas_size = best_fit(height, width, self.canvas_sizes)
        return CanvasPlan(
            image_size=Size(height, width),
            canvas_size=canvas_size,
            content_box=centred_box(height, width, canvas_size),
            tile_grid=tile_grid,
            tile_boxes=even_tile_boxes(tile_grid, self.tile_size),
            overview_size=self.tile_size,
        )

    def views(self, height: int, width: int) -> Views:
        """Return tile grid, tile and overview of the plan."""
        check_image_size(height, width)
        return best_fit(height, width, self.canvas_sizes)[0], self.tile_size, self.tile_size


def canvas_sizes_of(tile_grids: Sequence[Sequence[int]], tile_size: Size) -> dict[tuple[int, int], Size]:
    """Return the canvas size of each tile grid, in the order of the list.

    Raises:
        ValueError: If the list is empty or a grid is not two positive integers.
    """
    if not tile_grids or not all(_is_tile_grid(grid) for grid in tile_grids):
        raise ValueError(
            f"`canvas.tile_grids` must be a list of [rows, cols] with positive integers; got {tile_grids!r}."
        )
    return {(grid[0], grid[1]): Size(grid[0] * tile_size.height, grid[1] * tile_size.width) for grid in tile_grids}


def best_fit(height: int, width: int, canvas_sizes: dict[tuple[int, int], Size]) -> tuple[tuple[int, int], Size]:
    """Return the tile grid and canvas that keep most pixels of the image, then waste fewest; the first wins ties."""
    best, most, least_area = None, -1, 0
    area = width * height
    for item in canvas_sizes.items():
        canvas_height, canvas_width = item[1]
        # Doubles and truncation as in transformers `select_best_resolution`.
        scale, other = canvas_width / width, canvas_height / height
        if other < scale:
            scale = other
        kept = int(width * scale) * int(height * scale)
        if kept > area:
            kept = area
        # Among canvases that keep the same number of pixels, the smallest wastes fewest.
        if kept > most or (kept == most and canvas_height * canvas_width < least_area):
            best, most, least_area = item, kept, canvas_height * canvas_width
    assert best is not None
    return best


def resized_size(height: int, width: int, canvas_size: Size) -> Size:
    """Return the size at which an image of `height` x `width` is drawn on a canvas, aspect ratio kept.

    Example:
        >>> resized_size(100, 250, Size(336, 672))
        Size(height=269, width=672)

    Source: transformers `image_processing_utils.py::get_patch_output_size`, which computes in doubles too.
    """
    scale_height, scale_width = canvas_size.height / height, canvas_size.width / width
    if scale_width < scale_height:
        return Size(min(ceil(height * scale_width), canvas_size.height), canvas_size.width)
    return Size(canvas_size.height, min(ceil(width * scale_height), canvas_size.width))


def centred_box(height: int, width: int, canvas_size: Size) -> Box:
    """Return the box of the resized image on the canvas."""
    content = resized_size(height, width, canvas_size)
    top, left = (canvas_size.height - content.height) // 2, (canvas_size.width - content.width) // 2
    return Box(top, left, top + content.height, left + content.width)


def _is_tile_grid(grid: Sequence[int]) -> bool:
    return (
        isinstance(grid, Sequence)
        and len(grid) == 2
        and all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in grid)
    )
