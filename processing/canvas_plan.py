# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""CanvasPlan: what a canvas strategy decides about one image, in integers and before any pixel is touched.

An image is resized onto a *canvas*; the canvas is cut into *tiles*; a downscaled whole image, the *overview*, may go
with them. Overview and tiles together are the *views*: what the low-res tower encodes.

Sizes are (height, width), grids (rows, cols), boxes (top, left, bottom, right) in pixels of the canvas; tiles are in
row-major order and the overview is the first view.
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple


class Size(NamedTuple):
    """Height and width in pixels."""

    height: int
    width: int


class Box(NamedTuple):
    """A rectangle in pixels of the canvas; `bottom` and `right` are exclusive."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> Size:
        """Height and width of the box."""
        return Size(self.bottom - self.top, self.right - self.left)


@dataclass(frozen=True)
class CanvasPlan:
    """Where an image and its tiles lie on the canvas.

    Attributes:
        image_size: Pixels of the image as it came.
        canvas_size: Pixels of the canvas.
        content_box: The part of the canvas that the resized image covers; the rest is padding.
        tile_grid: Tiles per axis, (rows, cols).
        tile_boxes: One box per tile, row-major. Tiles may overlap and differ in size.
        overview_size: Pixels of the overview, or None when there is none.

    Raises:
        ValueError: If a size is not positive, a box leaves the canvas, or the grid and the boxes disagree.
    """

    image_size: Size
    canvas_size: Size
    content_box: Box
    tile_grid: tuple[int, int]
    tile_boxes: tuple[Box, ...]
    overview_size: Size | None = None

    def __post_init__(self) -> None:
        sizes = [("image_size", self.image_size), ("canvas_size", self.canvas_size)]
        if self.overview_size is not None:
            sizes.append(("overview_size", self.overview_size))
        for name, (height, width) in sizes:
            if height < 1 or width < 1:
                raise ValueError(f"`{name}` must be at least 1x1 pixels; got {height}x{width}.")
        rows, cols = self.tile_grid
        if rows < 1 or cols < 1 or rows * cols != len(self.tile_boxes):
            raise ValueError(f"A {rows}x{cols} tile grid needs {rows * cols} tile boxes; got {len(self.tile_boxes)}.")
        canvas_height, canvas_width = self.canvas_size
        for number, (top, left, bottom, right) in enumerate((self.content_box, *self.tile_boxes)):
            if not (0 <= top < bottom <= canvas_height and 0 <= left < right <= canvas_width):
                name = f"Tile {number - 1}" if number else "The content box"
                raise ValueError(
                    f"{name} {(top, left, bottom, right)} is empty or leaves the {canvas_height}x{canvas_width} "
                    "canvas; boxes are (top, left, bottom, right)."
                )

    @property
    def num_tiles(self) -> int:
        """Number of tiles."""
        return len(self.tile_boxes)

    @property
    def num_views(self) -> int:
        """Number of views: the tiles and, where there is one, the overview."""
        return len(self.tile_boxes) + (self.overview_size is not None)

    @property
    def view_boxes(self) -> tuple[Box, ...]:
        """The part of the canvas each view shows, overview first; the overview shows the content box."""
        return self.tile_boxes if self.overview_size is None else (self.content_box, *self.tile_boxes)


@functools.lru_cache(maxsize=256)
def even_tile_boxes(tile_grid: tuple[int, int], tile_size: Size) -> tuple[Box, ...]:
    """Boxes of equal tiles that cover a canvas of `tile_grid` x `tile_size` once, row-major.

    Example:
        >>> even_tile_boxes((1, 2), Size(3, 5))
        (Box(top=0, left=0, bottom=3, right=5), Box(top=0, left=5, bottom=3, right=10))
    """
    (rows, cols), (height, width) = tile_grid, tile_size
    return tuple(
        Box(row * height, col * width, (row + 1) * height, (col + 1) * width)
        for row in range(rows)
        for col in range(cols)
    )
