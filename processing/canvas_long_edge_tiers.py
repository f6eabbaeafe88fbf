# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The Open-AutoGLM article's adaptive partition: the image's long edge decides the size of the tiles.

Source: an article on multi-resolution processing in Open-AutoGLM, without repository; it gives the thresholds and no
code for the cutting.

An image with a long edge above 1024 pixels is cut into tiles of 512 image pixels, above 512 into tiles of 384; a
smaller image is one tile of its long edge. The grid starts at the top left corner; black padding at the right and at
the bottom completes the tiles. Every tile is then drawn at the tower's size.

Deviations, where the article is silent: the padding, no overlap, the drawing at the tower's size, and `max_tiles`: an
image that would need more tiles is cut into larger ones, the smallest that suffice. `max_tiles=None` removes the
limit. Where the article's text ("small tiles for high resolution") contradicts its code, we follow the code.
"""

from collections.abc import Sequence

from .canvas_plan import Box, CanvasPlan, Size, Views, check_bool, check_count, check_image_size, even_tile_boxes

TIERS = ((1024, 512), (512, 384))


class LongEdgeTiersCanvas:
    """Canvas of tiles whose size depends on the long edge.

    Args:
        tile_size: Pixels at which a tile is drawn.
        tiers: (long edge, tile) in pixels of the image: the first whose edge is below the image's decides; the image
            is one tile when none is.
        max_tiles: Most tiles; None: no limit.
        overview: Whether an image of several tiles has the whole image, stretched to one tile, as an extra view.

    Raises:
        ValueError: If an option has a wrong form.

    Example:
        A long edge of 1024 pixels is not above 1024, so the image is cut in tiles of 384 of its pixels; one more pixel
        takes tiles of 512. Both are 3 rows and 2 columns, but the image fills
        them differently: 384 pixels of the first are drawn as 512.

        >>> LongEdgeTiersCanvas(Size(512, 512))(1024, 700).content_box
        Box(top=0, left=0, bottom=1365, right=933)
        >>> LongEdgeTiersCanvas(Size(512, 512))(1025, 700).content_box
        Box(top=0, left=0, bottom=1025, right=700)
    """

    equal_views = True
    centred = False
    tiles_overlap = False

    def __init__(
        self,
        tile_size: Size,
        *,
        tiers: Sequence[Sequence[int]] = TIERS,
        max_tiles: int | None = 36,
        overview: bool = False,
    ) -> None:
        check_count("max_tiles", max_tiles, optional=True)
        check_bool("overview", overview)
        if not isinstance(tiers, Sequence) or any(not _is_tier(tier) for tier in tiers):
            raise ValueError(f"`canvas.tiers` must be a list of [long edge, tile] in pixels; got {tiers!r}.")
        self.tile_size = tile_size
        self.tiers = sorted(((edge, tile) for edge, tile in tiers), reverse=True)
        self.max_tiles = max_tiles
        self.overview = overview

    def __call__(self, height: int, width: int) -> CanvasPlan:
        """Plan the canvas of an image of this size."""
        (rows, cols), _, overview_size = self.views(height, width)
        side = self.tile_side(height, width)
        canvas_size = Size(rows * self.tile_size.height, cols * self.tile_size.width)
        content = Size(max(1, height * self.tile_size.height // side), max(1, width * self.tile_size.width // side))
        return CanvasPlan(
            image_size=Size(height, width),
            canvas_size=canvas_size,
            content_box=Box(0, 0, *content),
            tile_grid=(rows, cols),
            tile_boxes=even_tile_boxes((rows, cols), self.tile_size),
            overview_size=overview_size,
        )

    def views(self, height: int, width: int) -> Views:
        """Return tile grid, tile and overview of the plan."""
        check_image_size(height, width)
        side = self.tile_side(height, width)
        tile_grid = -(-height // side), -(-width // side)
        return tile_grid, self.tile_size, self.tile_size if self.overview and tile_grid != (1, 1) else None

    def tile_side(self, height: int, width: int) -> int:
        """Return the image pixels per side of a tile.

        Example:
            >>> canvas = LongEdgeTiersCanvas(Size(336, 336))
            >>> canvas.tile_side(64, 1025), canvas.tile_side(1024, 64), canvas.tile_side(64, 300)
            (512, 384, 300)
        """
        long_edge = max(height, width)
        side = long_edge
        for edge, tile in self.tiers:
            if long_edge > edge:
                side = tile
                break
        if self.max_tiles is None or -(-height // side) * -(-width // side) <= self.max_tiles:
            return side
        # One tile of the long edge always suffices; the count never grows with the side.
        least, most = side + 1, long_edge
        while least < most:
            middle = (least + most) // 2
            if -(-height // middle) * -(-width // middle) <= self.max_tiles:
                most = middle
            else:
                least = middle + 1
        return least


def _is_tier(tier: Sequence[int]) -> bool:
    return (
        isinstance(tier, Sequence)
        and len(tier) == 2
        and all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in tier)
    )
