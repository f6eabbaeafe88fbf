# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""CanvasPlan: a canvas strategy's decisions about one image, as integers, made before any pixel is read.

An image is resized onto a *canvas*; the canvas is cut into *tiles*; a downscaled whole image, the *overview*, may be
added. Overview and tiles together are the *views*, which the low-res tower encodes.

Sizes are (height, width), grids (rows, cols), boxes (top, left, bottom, right) in pixels of the canvas. Tiles are in
row-major order. The overview is the first view; `layout.py` decides its place in the prompt. Tiles of different images
may differ in size; a view has the size of its tile's box, the overview has `overview_size`.

An image that is not cut has one tile and no overview: its only view shows the whole image.
"""

import functools
from collections.abc import Sequence
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


# The part of a plan that counting needs: tile grid, size of a tile, and size of the overview or None.
Views = tuple[tuple[int, int], Size, Size | None]


@dataclass(frozen=True)
class CanvasPlan:
    """The geometry of an image and its tiles on the canvas.

    Attributes:
        image_size: Pixels of the original image.
        canvas_size: Pixels of the canvas.
        content_box: The part of the canvas that the resized image covers; the rest is padding.
        tile_grid: Tiles per axis, (rows, cols).
        tile_boxes: One box per tile, row-major. Tiles may overlap and differ in size.
        overview_size: Pixels of the overview, or None without an overview.
        overview_box: The part of the canvas that the overview shows, or None for the content box: the whole image
            stretched, without padding.
        overview_content: The part of the overview that the image covers, in pixels of the overview, where the overview
            has padding that the canvas has not; None: it follows from `overview_box`.
        fill: Gray levels of the padding, (red, green, blue).
        padded_size: If given, the image is first centred, in its own pixels, on a picture of this size, which is then
            resized to the canvas; otherwise the image is resized to its content box.
        drawn_size: If given, the image is resized to this size before it is centred on `padded_size`.
        filter: Filter that then draws the views and the high-res canvas, "bilinear" or "bicubic"; None for that of the
            image processor.

    Raises:
        ValueError: If a size is not positive, a box leaves the canvas, the grid and the boxes disagree, or the image
            does not fit into `padded_size`.
    """

    image_size: Size
    canvas_size: Size
    content_box: Box
    tile_grid: tuple[int, int]
    tile_boxes: tuple[Box, ...]
    overview_size: Size | None = None
    overview_box: Box | None = None
    fill: tuple[int, int, int] = (0, 0, 0)
    padded_size: Size | None = None
    overview_content: Box | None = None
    drawn_size: Size | None = None
    filter: str | None = None

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
        if self.overview_box is not None:
            self._check_overview_box(self.overview_box)
        if self.overview_content is not None:
            self._check_overview_content(self.overview_content)
        height, width = self.image_size if self.drawn_size is None else self.drawn_size
        if self.padded_size is not None and (height > self.padded_size[0] or width > self.padded_size[1]):
            raise ValueError(
                f"`padded_size` must hold the {height}x{width} image; got {self.padded_size[0]}x{self.padded_size[1]}."
            )

    def _check_overview_box(self, box: Box) -> None:
        if self.overview_size is None:
            raise ValueError("`overview_box` is set, but the plan has no overview: `overview_size` is None.")
        canvas, content = Box(0, 0, *self.canvas_size), self.content_box
        inside = canvas.top <= box.top and canvas.left <= box.left and box.bottom <= canvas.bottom
        shows_all = box.top <= content.top and box.left <= content.left and box.bottom >= content.bottom
        if not (inside and shows_all and content.right <= box.right <= canvas.right):
            raise ValueError(
                f"The overview {tuple(box)} must lie on the {canvas.bottom}x{canvas.right} canvas and hold the "
                f"content box {tuple(content)}."
            )

    def _check_overview_content(self, box: Box) -> None:
        height, width = self.overview_size or Size(0, 0)
        if self.overview_box is not None or not (
            0 <= box.top < box.bottom <= height and 0 <= box.left < box.right <= width
        ):
            raise ValueError(
                f"`overview_content` {tuple(box)} must be a part of the {height}x{width} overview, which then shows "
                "the whole image: `overview_box` must be None."
            )

    @property
    def views(self) -> Views:
        """Grid, tile and overview of a plan with equal tiles, from which tokens are counted."""
        return self.tile_grid, self.tile_boxes[0].size, self.overview_size

    @property
    def num_tiles(self) -> int:
        """Number of tiles."""
        return len(self.tile_boxes)

    @property
    def num_views(self) -> int:
        """Number of views: the tiles and the overview, if there is one."""
        return len(self.tile_boxes) + (self.overview_size is not None)

    @property
    def view_boxes(self) -> tuple[Box, ...]:
        """Part of the canvas that each view shows, overview first; the overview shows at least the content box."""
        return self.tile_boxes if self.overview_size is None else (self._overview_box, *self.tile_boxes)

    @property
    def view_sizes(self) -> tuple[Size, ...]:
        """Pixels of each view, overview first."""
        tiles = tuple(box.size for box in self.tile_boxes)
        return tiles if self.overview_size is None else (self.overview_size, *tiles)

    @property
    def content_in_overview(self) -> Box | None:
        """Return the part of the overview that the image covers, in pixels of the overview; None without an overview.

        Edges are rounded half up; at least one pixel is kept.
        """
        if self.overview_size is None or self.overview_content is not None:
            return self.overview_content
        shown, content = self._overview_box, self.content_box
        top, bottom = scaled_span(
            content.top - shown.top, content.bottom - shown.top, shown.size.height, self.overview_size.height
        )
        left, right = scaled_span(
            content.left - shown.left, content.right - shown.left, shown.size.width, self.overview_size.width
        )
        return Box(top, left, bottom, right)

    @property
    def _overview_box(self) -> Box:
        return self.content_box if self.overview_box is None else self.overview_box


@functools.lru_cache(maxsize=256)
def even_tile_boxes(tile_grid: tuple[int, int], tile_size: Size) -> tuple[Box, ...]:
    """Return the boxes of equal tiles that cover a canvas of `tile_grid` x `tile_size` once, row-major.

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


def scaled_edge(edge: int, low: int, high: int) -> int:
    """Scale an edge at `edge` pixels by `high / low`, rounded half up."""
    return (2 * edge * high + low) // (2 * low)


def scaled_span(start: int, stop: int, low: int, high: int, limit: int | None = None) -> tuple[int, int]:
    """Scale both edges of a span by `high / low`; keep at least one pixel, below `limit` (default `high`).

    Example:
        >>> scaled_span(3, 11, 14, 32)
        (7, 25)
        >>> scaled_span(27, 28, 28, 2)
        (1, 2)
    """
    end = high if limit is None else limit
    first = min(scaled_edge(start, low, high), end - 1)
    return first, min(max(scaled_edge(stop, low, high), first + 1), end)


def inscribed_size(height: int, width: int, canvas_size: Size) -> Size:
    """Return the largest size of an image on a canvas, aspect ratio kept, rounded down, at least one pixel.

    Example:
        >>> inscribed_size(480, 640, Size(512, 768))
        Size(height=512, width=682)

    Source: `resize_with_pad` of the Open-AutoGLM article, in doubles too; the article's function may return 0 pixels.
    """
    scale = min(canvas_size.height / height, canvas_size.width / width)
    return Size(max(1, int(height * scale)), max(1, int(width * scale)))


def check_image_size(height: int, width: int) -> None:
    """Check that an image has at least one pixel; raise a `ValueError` otherwise."""
    if height < 1 or width < 1:
        raise ValueError(f"`image_size` must be at least 1x1 pixels; got {height}x{width}.")


def check_bool(option: str, value: object) -> None:
    """Check that the value of a canvas option is a bool; raise a `ValueError` otherwise."""
    if not isinstance(value, bool):
        raise ValueError(f"`canvas.{option}` must be true or false; got {value!r}.")


def check_choice(option: str, value: object, choices: Sequence[str]) -> None:
    """Check that the value of a canvas option is one of `choices`; raise a `ValueError` otherwise."""
    if value not in choices:
        raise ValueError(f"`canvas.{option}` must be one of {list(choices)}; got {value!r}.")


def check_fill(value: Sequence[int]) -> tuple[int, int, int]:
    """Return the gray levels of a canvas's padding; raise a `ValueError` if they are not three of 0..255."""
    if not isinstance(value, Sequence) or len(value) != 3 or any(level not in range(256) for level in value):
        raise ValueError(f"`canvas.fill` must be three gray levels of 0..255; got {value!r}.")
    return value[0], value[1], value[2]


def check_count(option: str, value: object, *, optional: bool = False) -> None:
    """Check that a canvas option is a positive integer or an allowed None; raise a `ValueError` otherwise."""
    if not (optional and value is None) and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        rule = "a positive integer or null" if optional else "a positive integer"
        raise ValueError(f"`canvas.{option}` must be {rule}; got {value!r}.")
