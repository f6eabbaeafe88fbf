# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The whole image stretched onto one tile; what a plain CLIP or LLaVA-1.0 pipeline sees.

One view, no overview, no padding. The aspect ratio is not kept.
"""

from .canvas_plan import Box, CanvasPlan, Size, Views, even_tile_boxes


class SingleCanvas:
    """One tile per image.

    Args:
        tile_size: Pixels of the tile.
    """

    equal_views = True
    tiles_overlap = False
    centred = True  # one view: a layout has nothing to drop

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
        """Tile grid, tile and overview of the plan."""
        return (1, 1), self.tile_size, None
