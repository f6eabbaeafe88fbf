# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The whole image stretched onto one tile, as in a plain CLIP or LLaVA-1.0 pipeline.

One view, no overview, no padding. The aspect ratio is not kept.
"""

from .canvas_plan import Box, CanvasPlan, Size, Views, even_tile_boxes


class SingleCanvas:
    """Canvas of one tile per image.

    Args:
        tile_size: Pixels of the tile.

    Example:
        There is nothing to choose and no tie:

        >>> SingleCanvas(Size(336, 336))(35, 49).canvas_size
        Size(height=336, width=336)
    """

    equal_views = True
    tiles_overlap = False
    centred = True  # one view, so that a layout has nothing to drop

    def __init__(self, tile_size: Size) -> None:
        self.tile_size = tile_size

    def __call__(self, height: int, width: int) -> CanvasPlan:
        """Plan the canvas of an image of this size."""
        return CanvasPlan(
            image_size=Size(height, width),
            canvas_size=self.tile_size,
            content_box=Box(0, 0, *self.tile_size),
            tile_grid=(1, 1),
            tile_boxes=even_tile_boxes((1, 1), self.tile_size),
        )

    def views(self, height: int, width: int) -> Views:
        """Return tile grid, tile and overview of the plan."""
        return (1, 1), self.tile_size, None
