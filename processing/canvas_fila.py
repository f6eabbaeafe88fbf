# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""FILA's dynamic cropping: the canvas that encloses the image most compactly, cut into equal tiles.

Paper: FILA (HyViLM), arXiv:2412.08378: five canvases (336x672, 672x336, 672x672, 1008x336, 336x1008 pixels), the one
that most compactly encloses the image, resize that keeps the aspect ratio, padding, crops of 336x336 pixels and one
336x336 view of the whole image.
Code: none is known for FILA. The five canvases are the default `image_grid_pinpoints` of LLaVA-NeXT; its arithmetic
(transformers `select_best_resolution`, `get_patch_output_size`) is followed wherever the paper is silent.

Rule "enclose": among the canvases at least as high and as wide as the image, take the smallest area; among equal areas
the canvas on which the image is drawn largest; then the order of the list. If no canvas encloses the image, rule
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

from .canvas_llava_next import best_fit, canvas_sizes_of, centred_box
from .canvas_plan import CanvasPlan, Size, Views, check_bool, check_choice, check_image_size, even_tile_boxes

FILA_TILE_GRIDS = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))
RULES = ("enclose", "llava_next")


class FilaCanvas:
    """FILA's canvas, chosen from a list of tile grids.

    Args:
        tile_size: Pixels of one tile; a canvas is a tile grid times this size.
        tile_grids: The grids to choose from, (rows, cols); earlier ones win ties.
        rule: "enclose" or "llava_next", see the module's docstring.
        overview: Whether the whole image is an extra view.

    Raises:
        ValueError: If an option has a wrong form.

    Example:
        An image of 200x100 pixels. All five canvases enclose it; two of them, 336x672 and 672x336, have the smallest
        area. The tie goes to the one in which the image is drawn larger: on 336x672 it is scaled by 1.68 (its 200 rows
        meet 336), on 672x336 by 3.36. The rule "llava_next" finds that both keep all pixels and waste as many, and
        takes the first of the list.

        >>> FilaCanvas(Size(336, 336))(200, 100).tile_grid
        (2, 1)
        >>> FilaCanvas(Size(336, 336), rule="llava_next")(200, 100).tile_grid
        (1, 2)
    """

    equal_views = True
    tiles_overlap = False
    centred = True

    def __init__(
        self,
        tile_size: Size,
        *,
        tile_grids: Sequence[Sequence[int]] = FILA_TILE_GRIDS,
        rule: str = "enclose",
        overview: bool = True,
    ) -> None:
        check_choice("rule", rule, RULES)
        check_bool("overview", overview)
        self.tile_size = tile_size
        self.rule = rule
        self.overview_size = tile_size if overview else None
        self.canvas_sizes = canvas_sizes_of(tile_grids, tile_size)

    def __call__(self, height: int, width: int) -> CanvasPlan:
        """Plan the canvas of an image of this size."""
        check_image_size(height, width)
        tile_grid, canvas_size = self._choose(height, width)
        return CanvasPlan(
            image_size=Size(height, width),
            canvas_size=canvas_size,
            content_box=centred_box(height, width, canvas_size),
            tile_grid=tile_grid,
            tile_boxes=even_tile_boxes(tile_grid, self.tile_size),
            overview_size=self.overview_size,
        )

    def views(self, height: int, width: int) -> Views:
        """Return tile grid, tile and overview of the plan."""
        check_image_size(height, width)
        return self._choose(height, width)[0], self.tile_size, self.overview_size

    def _choose(self, height: int, width: int) -> tuple[tuple[int, int], Size]:
        best, least_area, largest = None, 0, 0
        for item in self.canvas_sizes.items() if self.rule == "enclose" else ():
            canvas_height, canvas_width = item[1]
            if canvas_height >= height and canvas_width >= width:
                area = canvas_height * canvas_width
                # The scale of the drawn image, times height x width to stay in integers.
                scale = min(canvas_height * width, canvas_width * height)
                if best is None or area < least_area or (area == least_area and scale > largest):
                    best, least_area, largest = item, area, scale
        return best or best_fit(height, width, self.canvas_sizes)
