# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""MiniCPM-V's slices: up to nine of about 448x448 pixels, sides in whole patches by rounding, and an overview.

MiniCPM-V 4.6 rounds sides to whole blocks of 4x4 patches, or of 2x2 in its mode "4x": `multiple`.

Paper: Yao et al., "MiniCPM-V: A GPT-4V Level MLLM on Your Phone", arXiv:2408.01800, section 3.2.
Code: openbmb/MiniCPM-V-2_6, `image_processing_minicpmv.py` (as kept in 404805854/minicpmv2.6-onnx @ 8490e59).

`canvas_slices.py` holds the rule. Sides are rounded to whole patches, halves to the even multiple. An image that is
not cut is enlarged to about 448x448 pixels, even if it is tiny. Ties go to fewer slices and to fewer columns: a
square image of two slices is one column of two rows.

Deviations: no view has more patches than `max_view_area` times those of 448x448 pixels (2048); only images of an
aspect ratio beyond about 2000 reach that. `max_view_area=None` is the source's behaviour.
"""

from .canvas_plan import CanvasPlan, Size, Views, check_count
from .canvas_slices import check_slicing_options, rounded, sliced_plan, sliced_views


class MinicpmCanvas:
    """MiniCPM-V's canvas: slices in the grid nearest to the image's aspect ratio, and an overview.

    Args:
        tile_size: R x R pixels, the area of a slice.
        max_slices: Most slices, the overview not counted.
        patch_size: Pixels per patch side.
        multiple: Patches per side of a block; views are whole blocks.
        max_view_area: Most patches of one view, as a multiple of those of R x R pixels; None: no limit, as in the
            source.

    Raises:
        ValueError: If an option is not positive, or the tile is not square.

    Example:
        600x600 pixels are 1.8 squares of 448, so 2 slices are aimed at and 1 to 3 tried (1 is not cut). For a square
        image 2 rows of 1 column and 1 row of 2 columns are equally near; the tie goes to fewer columns. Each slice
        has about as many pixels as 448x448, with sides of whole patches.

        >>> plan = MinicpmCanvas(Size(448, 448))(600, 600)
        >>> plan.tile_grid, plan.canvas_size
        ((2, 1), Size(height=644, width=630))
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
        max_slices: int = 9,
        patch_size: int = 14,
        multiple: int = 1,
        max_view_area: int | None = 2,
    ) -> None:
        check_slicing_options(tile_size, max_slices, patch_size, max_view_area)
        check_count("multiple", multiple)
        self.resolution = tile_size.height
        self.max_slices = max_slices
        self.patch_size = patch_size
        self.patch_block = multiple
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
            patch_size=self.patch_size * self.patch_block,
            max_slices=self.max_slices,
            max_view_area=self.max_view_area,
            whole_patches=rounded,
        )
