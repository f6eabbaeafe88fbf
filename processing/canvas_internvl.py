# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""InternVL's tiling: the grid nearest to the image's aspect ratio, the image stretched onto it; a thumbnail.

Paper: Chen et al., "How Far Are We to GPT-4V?" (InternVL 1.5), arXiv:2404.16821, section 3.2.
Code: OpenGVLab/InternVL @ 2410d1d, `internvl_chat`, `dynamic_preprocess`; LEO (Mozhgan91/LEO @ d2787c6) uses the same.

Grids: all of `min_tiles` to `max_tiles` tiles, fewest tiles first. The smallest difference between width / height of
the image and cols / rows wins. On a tie the later grid replaces the earlier one if the image has more than half the
pixels of the later grid's canvas. Among grids with the same number of tiles the order decides ties:

    ties="original"       the order in which CPython iterates over the set that the source builds, as released
    ties="lexicographic"  by cols, then rows, as transformers' `get_optimal_tiled_canvas`

    score="nearest"        the smallest difference, as above
    score="eagle2"         the first largest min(canvas area / image area, 0.6) * min(t / a, a / t), t = cols / rows,
                           a = width / height: Eagle2's, arXiv:2501.14818, restated from its code

The orders differ for `min_tiles = max_tiles = 4` at 5:2 and hardly elsewhere. As in the source, doubles are compared.

The thumbnail is the whole image stretched to one tile, drawn if there is more than one tile. It is the first view, as
any overview here, and the last in the prompt (`layout.py`, presets "internvl" and "leo").

Deviations: none. `max_tiles` bounds the tokens of any image. For several images the source divides it by their number;
here the caller does so with the `canvas` option.
"""

from bisect import bisect_left

from .canvas_plan import (
    Box,
    CanvasPlan,
    Size,
    Views,
    check_bool,
    check_choice,
    check_count,
    check_image_size,
    even_tile_boxes,
)

TIES = ("original", "lexicographic")
SCORES = ("nearest", "eagle2")
MOST_AREA = 0.6  # of the image, beyond which Eagle2's score finds more pixels no better


class InternvlCanvas:
    """InternVL's canvas: the tile grid nearest to the image's aspect ratio.

    Args:
        tile_size: Pixels of one tile.
        min_tiles: Fewest tiles.
        max_tiles: Most tiles, the thumbnail not counted; 12 in InternVL's model card, 6 in its training scripts.
        thumbnail: Whether an image of several tiles has an overview.
        ties: Order among grids of equally many tiles, see the module's docstring.
        score: Which grid is the best, see there.

    Raises:
        ValueError: If an option has a wrong form, or `min_tiles` exceeds `max_tiles`.

    Example:
        A square image is equally near to 1x1, 2x2 and 3x3 tiles. 2x2 replaces 1x1 where the image has more than half
        the pixels of 896x896, 401,408: 640x640 pixels have 409,600, 630x630 have 396,900. For 3x3 it needs more than
        903,168.

        >>> InternvlCanvas(Size(448, 448))(640, 640).tile_grid
        (2, 2)
        >>> InternvlCanvas(Size(448, 448))(630, 630).tile_grid
        (1, 1)
    """

    equal_views = True
    centred = False
    tiles_overlap = False
    later_options = ("score",)

    def __init__(
        self,
        tile_size: Size,
        *,
        min_tiles: int = 1,
        max_tiles: int = 12,
        thumbnail: bool = True,
        ties: str = "original",
        score: str = "nearest",
    ) -> None:
        check_count("min_tiles", min_tiles)
        check_count("max_tiles", max_tiles)
        check_bool("thumbnail", thumbnail)
        check_choice("ties", ties, TIES)
        check_choice("score", score, SCORES)
        if min_tiles > max_tiles:
            raise ValueError(f"`canvas.min_tiles` must be at most `max_tiles`; got {min_tiles} and {max_tiles}.")
        self.tile_size = tile_size
        self.thumbnail = thumbnail
        self.score = score
        self.grids = grids = candidate_grids(min_tiles, max_tiles, ties)
        # Each distinct cols / rows with its grids: place in the order, (rows, cols), half the canvas's pixels.
        self.ratios = sorted({cols / rows for cols, rows in grids})
        self.candidates: list[list[tuple[int, tuple[int, int], float]]] = [[] for _ in self.ratios]
        for place, (cols, rows) in enumerate(grids):
            half = 0.5 * tile_size.height * tile_size.width * cols * rows
            self.candidates[bisect_left(self.ratios, cols / rows)].append((place, (rows, cols), half))

    def __call__(self, height: int, width: int) -> CanvasPlan:
        """Plan the canvas of an image of this size."""
        tile_grid, _, overview_size = self.views(height, width)
        canvas_size = Size(tile_grid[0] * self.tile_size.height, tile_grid[1] * self.tile_size.width)
        return CanvasPlan(
            image_size=Size(height, width),
            canvas_size=canvas_size,
            content_box=Box(0, 0, *canvas_size),
            tile_grid=tile_grid,
            tile_boxes=even_tile_boxes(tile_grid, self.tile_size),
            overview_size=overview_size,
        )

    def views(self, height: int, width: int) -> Views:
        """Return tile grid, tile and overview of the plan."""
        check_image_size(height, width)
        tile_grid = self._tile_grid(height, width)
        return tile_grid, self.tile_size, self.tile_size if self.thumbnail and tile_grid != (1, 1) else None

    def _tile_grid(self, height: int, width: int) -> tuple[int, int]:
        if self.score == "eagle2":
            return self._largest_score(height, width)
        ratio, area = width / height, height * width
        above = bisect_left(self.ratios, ratio)
        nearest = self.candidates[min(above, len(self.ratios) - 1)]
        if 0 < above < len(self.ratios):
            to_below, to_above = ratio - self.ratios[above - 1], self.ratios[above] - ratio
            if to_below < to_above:
                nearest = self.candidates[above - 1]
            elif to_below == to_above:
                nearest = sorted(self.candidates[above - 1] + nearest)
        # All of these are equally near: take the first one, or the last one whose canvas is not too large.
        best = nearest[0][1]
        for _, tile_grid, half in nearest[1:]:
            if area > half:
                best = tile_grid
        return best

    def _largest_score(self, height: int, width: int) -> tuple[int, int]:
        ratio, area, pixels = width / height, width * height, self.tile_size.height * self.tile_size.width
        best, most = (1, 1), float("-inf")
        for cols, rows in self.grids:
            own = cols / rows
            score = min(cols * rows * pixels / area, MOST_AREA) * min(own / ratio, ratio / own)
            if score > most:
                best, most = (rows, cols), score
        return best


def candidate_grids(min_tiles: int, max_tiles: int, ties: str) -> list[tuple[int, int]]:
    """Return the grids to choose from, (cols, rows), in the order in which they are tried."""
    if ties == "original":
        # The source fills a set in this order and sorts it; the set's iteration order decides among equals.
        grids = {
            (cols, rows)
            for count in range(min_tiles, max_tiles + 1)
            for cols in range(1, count + 1)
            for rows in range(1, count + 1)
            if min_tiles <= cols * rows <= max_tiles
        }
        return sorted(grids, key=lambda grid: grid[0] * grid[1])
    sides = range(1, max_tiles + 1)
    grids = {(cols, rows) for cols in sides for rows in sides if min_tiles <= cols * rows <= max_tiles}
    return sorted(grids, key=lambda grid: (grid[0] * grid[1], grid))
