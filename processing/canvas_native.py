# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The image at its own resolution, as one view of whole patches, without tiles.

Source: Qwen2-VL (Wang et al., arXiv:2409.12191) and transformers' `models/qwen2_vl/image_processing_qwen2_vl.py`,
`smart_resize`; `fit="stretch"` gives the same sizes for all images that this function accepts.

Each side is rounded to a multiple of `patch_size * multiple` pixels, halves to the even one. An image of more than
`max_patches` patches is shrunk with its aspect ratio kept and its sides rounded down.

    fit="stretch"  the image fills the view; one that is too large by rounding alone may grow along a side
    fit="corner"   the image keeps its own pixels and is padded with black at the right and at the bottom; it is
                   resized only where it has too many

Deviations: small images are not enlarged to a minimum. `smart_resize` rejects an aspect ratio beyond 200; here the
long side is shortened if no uniform scale brings a strip below the limit. `max_patches=None` removes the limit.
"""

from math import sqrt

from .canvas_plan import Box, CanvasPlan, Size, Views, check_choice, check_count, check_image_size, inscribed_size
from .canvas_slices import capped, floored, rounded

FITS = ("stretch", "corner")


class NativeCanvas:
    """Canvas of one view in the image's own size.

    Args:
        tile_size: Not used: a view has the size of its image.
        patch_size: Pixels per patch side.
        multiple: Patches per side that must stay together, for connectors that merge them.
        max_patches: Most patches of the view; None: no limit.
        fit: "stretch" or "corner", see the module's docstring.

    Raises:
        ValueError: If an option has a wrong form, or `max_patches` is less than one group of patches.

    Example:
        With patches of 14 pixels, 35 pixels are 2.5 patches and 49 pixels are 3.5: halves go to the even number, 2
        and 4.

        >>> NativeCanvas(Size(336, 336))(35, 49).canvas_size
        Size(height=28, width=56)
    """

    equal_views = False
    tiles_overlap = False
    patch_size: int
    patch_block: int
    centred = True  # one view, so that a layout has nothing to drop

    def __init__(
        self,
        tile_size: Size,
        *,
        patch_size: int = 14,
        multiple: int = 1,
        max_patches: int | None = 4096,
        fit: str = "stretch",
    ) -> None:
        check_count("patch_size", patch_size)
        check_count("multiple", multiple)
        check_count("max_patches", max_patches, optional=True)
        check_choice("fit", fit, FITS)
        if max_patches is not None and max_patches < multiple**2:
            raise ValueError(f"`canvas.max_patches` must be at least `multiple`^2 = {multiple**2}; got {max_patches}.")
        self.patch_size = patch_size
        self.patch_block = multiple
        self.unit = patch_size * multiple
        self.max_units = None if max_patches is None else max_patches // multiple**2
        self.fit = fit

    def __call__(self, height: int, width: int) -> CanvasPlan:
        """Plan the canvas of an image of this size."""
        check_image_size(height, width)
        size, fits = self._view_size(height, width)
        content = Box(0, 0, *size)
        if self.fit == "corner":
            content = Box(0, 0, height, width) if fits else Box(0, 0, *inscribed_size(height, width, size))
        return CanvasPlan(
            image_size=Size(height, width),
            canvas_size=size,
            content_box=content,
            tile_grid=(1, 1),
            tile_boxes=(Box(0, 0, *size),),
        )

    def views(self, height: int, width: int) -> Views:
        """Return tile grid, tile and overview of the plan."""
        check_image_size(height, width)
        return (1, 1), self._view_size(height, width)[0], None

    def _view_size(self, height: int, width: int) -> tuple[Size, bool]:
        """Return the view's size, and whether the image fits without shrinking."""
        unit, limit = self.unit, self.max_units
        if self.fit == "stretch":
            size = Size(rounded(height, unit), rounded(width, unit))
        else:
            size = Size(-(-height // unit) * unit, -(-width // unit) * unit)
        if limit is None or size.height * size.width <= limit * unit**2:
            return size, True
        scale = sqrt(height * width / (limit * unit**2))
        if self.fit == "corner":  # the image may fit even if the whole patches around it do not
            scale = max(scale, 1.0)
        return capped(Size(floored(height / scale, unit), floored(width / scale, unit)), unit, limit), False
