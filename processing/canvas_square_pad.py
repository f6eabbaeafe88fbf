# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The image on a square of padding, cut into grid x grid tiles: LLaVA-HR, EAGLE, Mini-Gemini and Mini-Gemini-HD.

Papers: Luo et al., "Feast Your Eyes" (LLaVA-HR), arXiv:2403.03003; Shi et al., "EAGLE", arXiv:2408.15998; Li et al.,
"Mini-Gemini", arXiv:2403.18814.
Code: `expand2square` of luogen1996/LLaVA-HR @ 1212ffb, NVlabs/EAGLE @ fef95f1 and dvlab-research/MGM @ 769820c.

LLaVA-HR and EAGLE use one tile (`grid=1`). Mini-Gemini-HD uses `grid=2` with an overview of the whole padded square.
The padding has CLIP's mean colour. `fit="center"` centres the image; an odd slack leaves its extra pixel on the right
or at the bottom. `fit="corner"` pads the right and the bottom only.

Deviations: the sources pad in the image's own pixels, then resize. That needs width^2 pixels for a long strip and lets
padding bleed into the border by half a pixel. Here the image is resized to its box on the square; edges are rounded
half up (`center`) or down (`corner`), one pixel is kept. `exact=True` pads first. Mini-Gemini interpolates its tiles
bilinearly from the normalised high-res pixels; here they are drawn from the image.
"""

from collections.abc import Sequence

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
    inscribed_size,
    scaled_span,
)

FITS = ("center", "corner")
CLIP_MEAN_COLOUR = (122, 116, 104)


class SquarePadCanvas:
    """Canvas of a padded square, cut into equal tiles.

    Args:
        tile_size: Pixels of one tile; square.
        grid: Tiles per side.
        overview: Whether the whole square is an extra view.
        fit: Position of the image, "center" or "corner".
        fill: Gray levels of the padding, (red, green, blue).
        exact: Whether to pad before resizing, as the sources do; for `fit="center"`.

    Raises:
        ValueError: If an option has a wrong form.

    Example:
        An image of 336x333 pixels leaves 3 columns of padding; of an odd slack the extra one lies on the right.

        >>> SquarePadCanvas(Size(336, 336))(336, 333).content_box
        Box(top=0, left=1, bottom=336, right=334)
    """

    equal_views = True
    centred: bool
    tiles_overlap = False

    def __init__(
        self,
        tile_size: Size,
        *,
        grid: int = 1,
        overview: bool = False,
        fit: str = "center",
        fill: Sequence[int] = CLIP_MEAN_COLOUR,
        exact: bool = False,
    ) -> None:
        check_count("grid", grid)
        check_bool("overview", overview)
        check_choice("fit", fit, FITS)
        check_bool("exact", exact)
        self.fill = check_fill(fill)
        if exact and fit != "center":
            raise ValueError(f"`canvas.exact` pads around the image and goes with `fit` 'center'; got {fit!r}.")
        self.tile_size = tile_size
        self.tile_grid = (grid, grid)
        self.canvas_size = Size(grid * tile_size.height, grid * tile_size.width)
        self.overview_size = tile_size if overview else None
        self.fit = fit
        self.centred = fit == "center"
        self.exact = exact

    def __call__(self, height: int, width: int) -> CanvasPlan:
        """Plan the canvas of an image of this size."""
        check_image_size(height, width)
        side = max(height, width)
        if self.fit == "center":
            top, left = (side - height) // 2, (side - width) // 2
            top, bottom = scaled_span(top, top + height, side, self.canvas_size.height)
            left, right = scaled_span(left, left + width, side, self.canvas_size.width)
            content = Box(top, left, bottom, right)
        else:
            content = Box(0, 0, *inscribed_size(height, width, self.canvas_size))
        return CanvasPlan(
            image_size=Size(height, width),
            canvas_size=self.canvas_size,
            content_box=content,
            tile_grid=self.tile_grid,
            tile_boxes=even_tile_boxes(self.tile_grid, self.tile_size),
            overview_size=self.overview_size,
            overview_box=Box(0, 0, *self.canvas_size) if self.overview_size else None,
            fill=self.fill,
            padded_size=Size(side, side) if self.exact else None,
        )

    def views(self, height: int, width: int) -> Views:
        """Return tile grid, tile and overview of the plan."""
        check_image_size(height, width)
        return self.tile_grid, self.tile_size, self.overview_size
