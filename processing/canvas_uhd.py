# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""LLaVA-UHD v1's slices: up to seven of about 336x336 pixels, sides in whole patches by flooring, and an overview.

Paper: Xu et al., "LLaVA-UHD: an LMM Perceiving Any Aspect Ratio and High-Resolution Images", arXiv:2403.11703, 3.1.
Code: thunlp/LLaVA-UHD, branch LLaVA-UHD-v1 @ dd7f6cc, `slice_image_minicpm`.

`canvas_slices.py` holds the rule. Sides are rounded down to whole patches. In the prompt the overview comes last
(`layout.py`, preset "llava_uhd").

Deviations: no view has more patches than `max_view_area` times those of 336x336 pixels (1152); `max_view_area=None` is
the source's behaviour. The source's evaluation loaders of VQA and ScienceQA first resize the long side to 1024 pixels,
and training regrids some images at random; neither is part of the strategy.
"""

from .canvas_plan import CanvasPlan, Size, Views
from .canvas_slices import check_slicing_options, floored, sliced_plan, sliced_views


class UhdCanvas:
    """LLaVA-UHD's canvas: slices in the grid nearest to the image's aspect ratio, and an overview.

    Args:
        tile_size: R x R pixels, the area of a slice.
        max_slices: Most slices, the overview not counted.
        patch_size: Pixels per patch side.
        max_view_area: Most patches of one view, as a multiple of those of R x R pixels; None: no limit, as in the
            source.

    Raises:
        ValueError: If an option is not positive, or the tile is not square.

    Example:
        450x450 pixels are 1.8 squares of 336, so 2 slices are aimed at. For a square image 2 rows of 1 column and
        1 row of 2 columns are equally near; the tie goes to fewer columns. Sides are whole patches of 14 pixels by
        flooring.

        >>> plan = UhdCanvas(Size(336, 336))(450, 450)
        >>> plan.tile_grid, plan.canvas_size
        ((2, 1), Size(height=448, width=462))
    """

    equal_views = False
    centred = False
    tiles_overlap = False
    patch_size: int
    patch_block = 1

    def __init__(
        self, tile_size: Size, *, max_slices: int = 7, patch_size: int = 14, max_view_area: int | None = 2
    ) -> None:
        check_slicing_options(tile_size, max_slices, patch_size, max_view_area)
        self.resolution = tile_size.height
        self.max_slices = max_slices
        self.patch_size = patch_size
        self.max_view_area = max_view_area

    def __call__(self, height: int, width: int) -> CanvasPlan:
        """Plan the canvas of an image of this size."""
        return sliced_plan(height, width, self.views(height, width))

    def views(self, height: int, width: int) -> Views:
        """Return tile grid, tile and overview of the plan."""
        return sliced_views(
            height,
            width,
            resolution=self.resolution,
            patch_size=self.patch_size,
            max_slices=self.max_slices,
            max_view_area=self.max_view_area,
            whole_patches=floored,
        )
