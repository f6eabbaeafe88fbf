# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""FILA's dynamic cropping: the canvas that encloses the image most compactly, cut into equal tiles.

Paper: FILA (HyViLM), arXiv:2412.08378: five canvases (336x672, 672x336, 672x672, 1008x336, 336x1008 pixels), the one
that most compactly encloses the image, resize that keeps the aspect ratio, padding, crops of 336x336 pixels and one
336x336 view of the whole image.
Code: none is known for FILA. The five canvases are the default `image_grid_pinpoints` of LLaVA-NeXT; its arithmetic
(transformers `select_best_resolution`, `get_patch_output_size`) is followed wherever the paper is silent.

Rule "enclose": of the canvases at least as high and as wide as the image the one of the smallest area; among equal
areas the one in which the image is drawn largest; then the order of the list. When no canvas encloses the image, rule
"llava_next" decides.

Rule "llava_next", always: most image pixels kept, then fewest canvas pixels wasted, then the order of the list. Where
a canvas encloses the image both rules choose the same area; they differ in ties, for instance 200x100 pixels.

Resize: the limiting side meets the canvas, the other is rounded up and clipped to the canvas. The image is centred; an
odd slack leaves its extra pixel on the right or at the bottom. The overview is the whole image, without padding,
stretched to one tile.

Deviations of "llava_next" from LLaVA-NeXT: none, including its arithmetic in doubles (`CanvasPlan` holds integers; a
double product one ulp above a whole number is rounded up as there).
"""

from collections.abc import Sequence
from math import ceil

from .canvas_plan import Box, CanvasPlan, Size, even_tile_boxes

FILA_TILE_GRIDS = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))
RULES = ("enclose", "llava_next")


class FilaCanvas:
    """A canvas chosen out of a list of tile grids.

    Args:
        tile_size: Pixels of one tile; a canvas is a tile grid times this size.
        tile_grids: The grids to choose out of, (rows, cols); earlier ones win ties.
        rule: "enclose" or "llava_next", see the module's docstring.
        overview: Whether the whole image is a view of its own.

    Raises:
        ValueError: If an option has another form.
    """

    def __init__(
        self,
        tile_size: Size,
        *,
        tile_grids: Sequence[Sequence[int]] = FILA_TILE_GRIDS,
        rule: str = "enclose",
        overview: bool = True,
    ) -> None:
        if rule not in RULES:
            raise ValueError(f"`canvas.rule` must be one of {list(RULES)}; got {rule!r}.")
        if not isinstance(overview, bool):
            raise ValueError(f"`canvas.overview` must be true or false; got {overview!r}.")
        if not tile_grids or not all(_is_tile_grid(grid) for grid in tile_grids):
            raise ValueError(
                f"`canvas.tile_grids` must be a list of [rows, cols] with positive integers; got {tile_grids!r}."
            )
        self.tile_size = tile_size
        self.rule = rule
        self.overview_size = tile_size if overview else None
        self.canvas_sizes = {
            (grid[0], grid[1]): Size(grid[0] * tile_size.height, grid[1] * tile_size.width) for grid in tile_grids
        }

    def __call__(self, height: int, width: int) -> CanvasPlan:
        """Plan the canvas of an image of this size."""
        if height < 1 or width < 1:
            raise ValueError(f"`image_size` must be at least 1x1 pixels; got {height}x{width}.")
        tile_grid = self._tile_grid(height, width)
        canvas_size = self.canvas_sizes[tile_grid]
        content = resized_size(height, width, canvas_size)
        top, left = (canvas_size.height - content.height) // 2, (canvas_size.width - content.width) // 2
        return CanvasPlan(
            image_size=Size(height, width),
            canvas_size=canvas_size,
            content_box=Box(top, left, top + content.height, left + content.width),
            tile_grid=tile_grid,
            tile_boxes=even_tile_boxes(tile_grid, self.tile_size),
            overview_size=self.overview_size,
        )

    def _tile_grid(self, height: int, width: int) -> tuple[int, int]:
        enclosing = [
            (grid, size) for grid, size in self.canvas_sizes.items() if size.height >= height and size.width >= width
        ]
        if self.rule == "enclose" and enclosing:
            # `min` keeps the first of equal keys, which is the order of the list.
            return min(enclosing, key=lambda item: _compactness(height, width, item[1]))[0]
        return max(self.canvas_sizes.items(), key=lambda item: _llava_next_fit(height, width, item[1]))[0]


def resized_size(height: int, width: int, canvas_size: Size) -> Size:
    """The size at which an image of `height` x `width` is drawn on a canvas, aspect ratio kept.

    Example:
        >>> resized_size(100, 250, Size(336, 672))
        Size(height=269, width=672)

    Source: transformers `image_processing_utils.py::get_patch_output_size`, in doubles as there.
    """
    scale_height, scale_width = canvas_size.height / height, canvas_size.width / width
    if scale_width < scale_height:
        return Size(min(ceil(height * scale_width), canvas_size.height), canvas_size.width)
    return Size(canvas_size.height, min(ceil(width * scale_height), canvas_size.width))


def _compactness(height: int, width: int, canvas_size: Size) -> tuple[int, int]:
    # The scale at which the image is drawn, times height x width to stay in integers.
    scale = min(canvas_size.height * width, canvas_size.width * height)
    return canvas_size.height * canvas_size.width, -scale


def _llava_next_fit(height: int, width: int, canvas_size: Size) -> tuple[int, int]:
    # Doubles and truncation as in transformers `select_best_resolution`.
    scale = min(canvas_size.width / width, canvas_size.height / height)
    kept = min(int(width * scale) * int(height * scale), width * height)
    return kept, kept - canvas_size.height * canvas_size.width


def _is_tile_grid(grid: Sequence[int]) -> bool:
    return (
        isinstance(grid, Sequence)
        and len(grid) == 2
        and all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in grid)
    )
