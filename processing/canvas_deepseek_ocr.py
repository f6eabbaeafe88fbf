# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""DeepSeek-OCR's canvas: InternVL's tiles, and a padded overview of another size than the tiles.

Paper: Wei et al., "DeepSeek-OCR: Contexts Optical Compression", arXiv:2510.18234, section 3.2.2.
Code: transformers, `models/unlimited_ocr/image_processing_unlimited_ocr.py`; deepseek-ai/DeepSeek-OCR, its first
release, pads with Pillow's `ImageOps.pad`.

An image of at most one tile per side is not cut: its only view is the overview. A larger one is stretched onto the
grid of `min_tiles` to `max_tiles` tiles by InternVL's rule (`canvas_internvl.py`), and the overview is added. The
overview is the whole image, its longest side at `overview_size`, in the middle of a square of `fill`:

    rounding="floor"    sides by round(side * (overview_size / longest)), offsets rounded down, as in transformers
    rounding="pillow"   as Pillow's `ImageOps.pad`: round(shorter / longer * overview_size), offsets rounded

With `tiles=False` no image is cut; it is stretched onto an overview no larger than a tile, and padded on a larger one.

Deviations: the image keeps at least one pixel per side of the overview, where the sources round it to none.
"""

from collections.abc import Sequence

from .canvas_internvl import InternvlCanvas
from .canvas_plan import (
    Box,
    CanvasPlan,
    Size,
    Views,
    check_bool,
    check_choice,
    check_count,
    check_fill,
    check_image_size,
    even_tile_boxes,
)

ROUNDINGS = ("floor", "pillow")


class DeepseekOcrCanvas:
    """DeepSeek-OCR's canvas: the tile grid nearest to the image's aspect ratio, and a padded overview.

    Args:
        tile_size: Pixels of one tile.
        overview_size: Pixels per side of the overview, or of the only view; None: 1.6 tiles in whole blocks, as 1024
            are of 640.
        min_tiles: Fewest tiles of an image that is cut.
        max_tiles: Most tiles; 9 in DeepSeek-OCR's code, 6 in its vLLM settings, 32 in Unlimited-OCR.
        tiles: Whether large images are cut.
        fill: Gray levels of the padding, (red, green, blue).
        rounding: Rule for the image's place on the overview, see the module's docstring.
        ties: As in `InternvlCanvas`.
        patch_size: Pixels per patch side.
        multiple: Patches per side of a block; views are whole blocks.

    Raises:
        ValueError: If an option has a wrong form, or `min_tiles` exceeds `max_tiles`. On an image: if views are
            not whole blocks.

    Example:
        Small images have one view, larger ones tiles and an overview.

        >>> canvas = DeepseekOcrCanvas(Size(640, 640))
        >>> canvas.views(480, 640)
        ((1, 1), Size(height=1024, width=1024), None)
        >>> canvas.views(1800, 1200)
        ((3, 2), Size(height=640, width=640), Size(height=1024, width=1024))
    """

    equal_views = False
    centred = False
    tiles_overlap = False
    patch_size: int
    patch_block: int

    def __init__(
        self,
        tile_size: Size,
        *,
        overview_size: int | None = None,
        min_tiles: int = 2,
        max_tiles: int = 9,
        tiles: bool = True,
        fill: Sequence[int] = (127, 127, 127),
        rounding: str = "floor",
        ties: str = "lexicographic",
        patch_size: int = 16,
        multiple: int = 4,
    ) -> None:
        check_count("overview_size", overview_size, optional=True)
        check_count("patch_size", patch_size)
        check_count("multiple", multiple)
        check_bool("tiles", tiles)
        check_choice("rounding", rounding, ROUNDINGS)
        self.grids = InternvlCanvas(tile_size, min_tiles=min_tiles, max_tiles=max_tiles, thumbnail=False, ties=ties)
        self.tile_size = tile_size
        block = patch_size * multiple
        side = max(1, round(1.6 * tile_size.height / block)) * block if overview_size is None else overview_size
        self.overview_size = Size(side, side)
        self.tiles = tiles
        self.fill = check_fill(fill)
        self.rounding = rounding
        self.patch_size = patch_size
        self.patch_block = multiple

    def __call__(self, height: int, width: int) -> CanvasPlan:
        """Plan the canvas of an image of this size."""
        tile_grid, tile, overview = self.views(height, width)
        canvas_size = Size(tile_grid[0] * tile.height, tile_grid[1] * tile.width)
        content = self._content(height, width)
        return CanvasPlan(
            image_size=Size(height, width),
            canvas_size=canvas_size,
            content_box=content if overview is None else Box(0, 0, *canvas_size),
            tile_grid=tile_grid,
            tile_boxes=even_tile_boxes(tile_grid, tile),
            overview_size=overview,
            overview_content=None if overview is None else content,
            fill=self.fill,
        )

    def views(self, height: int, width: int) -> Views:
        """Return tile grid, tile and overview of the plan."""
        check_image_size(height, width)
        block = self.patch_size * self.patch_block
        tile, overview = self.tile_size.height, self.overview_size.height
        if tile % block or overview % block:
            raise ValueError(
                f"Views of canvas 'deepseek_ocr' must be whole blocks of {block} pixels, `patch_size` times "
                f"`multiple`; tiles have {tile} pixels per side, and the overview {overview}."
            )
        if not self.tiles or max(height, width) <= self.tile_size.height:
            return (1, 1), self.overview_size, None
        return self.grids.views(height, width)[0], self.tile_size, self.overview_size

    def _content(self, height: int, width: int) -> Box:
        """Return the part of the overview that the image covers."""
        side, longest = self.overview_size.height, max(height, width)
        if not self.tiles and side <= self.tile_size.height:
            return Box(0, 0, side, side)
        if self.rounding == "floor":
            scale = side / longest
            drawn = [max(1, round(length * scale)) for length in (height, width)]
            top, left = ((side - length) // 2 for length in drawn)
        else:
            drawn = [
                side if length == longest else max(1, round(length / longest * side)) for length in (height, width)
            ]
            top, left = (round((side - length) * 0.5) for length in drawn)
        return Box(top, left, top + drawn[0], left + drawn[1])
