# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The image on a padded square, drawn once, and the view and the high-res canvas drawn from that square: DeepSeek-VL.

Paper: Lu et al., "DeepSeek-VL: Towards Real-World Vision-Language Understanding", arXiv:2403.05525.
Code: transformers, `models/deepseek_vl_hybrid/image_processing_pil_deepseek_vl_hybrid.py`.

The longer side becomes `side` pixels, the shorter one in proportion, rounded half to even, of at least `least` pixels.
The image lies in the middle of the square; an odd slack leaves its extra pixel on the right or at the bottom. The
square is the high-res canvas where `high_res_size` is `side`; the view is the square resized by `filter`, on uint8.
So the view's padding is the square's, and a pixel of it is filtered twice, as in the source.

One view, no overview. Deviations: none; the source's first filter is `resample` of the image processor.
"""

from collections.abc import Sequence

from .canvas_plan import (
    Box,
    CanvasPlan,
    Size,
    Views,
    check_choice,
    check_count,
    check_image_size,
    even_tile_boxes,
    scaled_span,
)

FILTERS = ("bilinear", "bicubic")
CLIP_MEAN_COLOUR = (122, 116, 104)


class RedrawnSquareCanvas:
    """Canvas of one view that is drawn from a padded square.

    Args:
        tile_size: Pixels of the view; square.
        side: Pixels per side of the square.
        least: Fewest pixels of the image's shorter side on the square.
        filter: Filter that draws the view from the square, "bilinear" or "bicubic", antialiased.
        fill: Gray levels of the padding, (red, green, blue).

    Raises:
        ValueError: If an option has a wrong form, or `least` exceeds `side`.

    Example:
        An image of 1000x7 pixels is 14 pixels wide on the square, not 7.

        >>> RedrawnSquareCanvas(Size(384, 384))(1000, 7).drawn_size
        Size(height=1024, width=14)
    """

    equal_views = True
    centred = True
    tiles_overlap = False

    def __init__(
        self,
        tile_size: Size,
        *,
        side: int = 1024,
        least: int = 14,
        filter: str = "bilinear",
        fill: Sequence[int] = CLIP_MEAN_COLOUR,
    ) -> None:
        check_count("side", side)
        check_count("least", least)
        check_choice("filter", filter, FILTERS)
        if least > side:
            raise ValueError(f"`canvas.least` must be at most `side`; got {least} and {side}.")
        if not isinstance(fill, Sequence) or len(fill) != 3 or any(level not in range(256) for level in fill):
            raise ValueError(f"`canvas.fill` must be three gray levels of 0..255; got {fill!r}.")
        self.tile_size = tile_size
        self.side, self.least, self.filter = side, least, filter
        self.fill = (fill[0], fill[1], fill[2])

    def __call__(self, height: int, width: int) -> CanvasPlan:
        """Plan the canvas of an image of this size."""
        check_image_size(height, width)
        scale = self.side / max(height, width)
        drawn = Size(*(max(round(length * scale), self.least) for length in (height, width)))
        top, left = ((self.side - length) // 2 for length in drawn)
        top, bottom = scaled_span(top, top + drawn.height, self.side, self.tile_size.height)
        left, right = scaled_span(left, left + drawn.width, self.side, self.tile_size.width)
        return CanvasPlan(
            image_size=Size(height, width),
            canvas_size=self.tile_size,
            content_box=Box(top, left, bottom, right),
            tile_grid=(1, 1),
            tile_boxes=even_tile_boxes((1, 1), self.tile_size),
            fill=self.fill,
            drawn_size=drawn,
            padded_size=Size(self.side, self.side),
            filter=self.filter,
        )

    def views(self, height: int, width: int) -> Views:
        """Return tile grid, tile and overview of the plan."""
        check_image_size(height, width)
        return (1, 1), self.tile_size, None
