# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Boxes of one image in the coordinates of its tokens, its views, its canvas, its pixels, and from 0 to 999.

Everything leads over the pixels of the image, for no other coordinates reach all of it:

    token   -> image   token_box         image -> tokens   tokens_in
    view    -> image   view_to_image     image -> view     image_to_view
    canvas  -> image   canvas_to_image   image -> canvas   image_to_canvas
    0..999  -> image   from_999          image -> 0..999   to_999

A `Box` is (top, left, bottom, right); bottom and right are exclusive. A `Box999` is (left, top, right, bottom), as
models for grounding write it: 0 is the left or upper edge of the image, 999 its right or lower edge. The image is the
one that was given, never the padded canvas.

Boxes are rounded outward, those from 0 to 999 to the nearest number. A box and what it becomes on the way there and
back differ by at most one unit of the coarser of the two coordinates. A box that holds padding only is None.
"""

from collections.abc import Sequence
from typing import NamedTuple

from fila.processing.canvas_plan import Box, CanvasPlan, Size
from fila.processing.token_boxes import (
    TokenPlace,
    canvas_to_image,
    cells_to_image,
    image_to_canvas,
    token_box,
    tokens_in,
    view_and_content,
)

__all__ = [
    "Box",
    "Box999",
    "BoxError",
    "TokenPlace",
    "canvas_to_image",
    "from_999",
    "image_to_canvas",
    "image_to_view",
    "to_999",
    "token_box",
    "tokens_in",
    "view_to_image",
]
LARGEST = 999


class BoxError(ValueError):
    """A box is empty, or it leaves what it is a box of."""


class Box999(NamedTuple):
    """A rectangle of an image in whole numbers from 0 to 999, relative to the image's width and height."""

    left: int
    top: int
    right: int
    bottom: int


def to_999(box: Box, image_size: tuple[int, int]) -> Box999:
    """Convert a box of the image from pixels to numbers from 0 to 999, each rounded to the nearest.

    Args:
        box: In pixels of the image.
        image_size: (height, width) of the image.

    Raises:
        BoxError: If the box is empty or leaves the image.

    Example:
        >>> to_999(Box(0, 50, 100, 200), (100, 200))
        Box999(left=250, top=0, right=999, bottom=999)
    """
    _check(box, image_size, "image of")
    top, left, bottom, right = (_nearest(edge * LARGEST, image_size[axis % 2]) for axis, edge in enumerate(box))
    return Box999(left, top, right, bottom)


def from_999(box: Sequence[int], image_size: tuple[int, int]) -> Box:
    """Convert (left, top, right, bottom) from 0 to 999, as a model writes it, to pixels of the image.

    Args:
        box: Four whole numbers; left may equal right and top bottom, which is one pixel.
        image_size: (height, width) of the image.

    Raises:
        BoxError: If there are not four numbers from 0 to 999, or right is before left or bottom above top.

    Example:
        >>> from_999([250, 0, 999, 999], (100, 200))
        Box(top=0, left=50, bottom=100, right=200)
    """
    if len(box) != 4 or not all(isinstance(number, int) and 0 <= number <= LARGEST for number in box):
        raise BoxError(f"A box must be four whole numbers from 0 to 999, (left, top, right, bottom); got {box!r:.80}.")
    left, top, right, bottom = box
    if left > right or top > bottom:
        raise BoxError(
            f"A box must be (left, top, right, bottom), left before right and top above bottom; got {box!r}."
        )
    spans = []
    for first, last, length in ((top, bottom, image_size[0]), (left, right, image_size[1])):
        start = min(_nearest(first * length, LARGEST), length - 1)
        spans.append((start, max(_nearest(last * length, LARGEST), start + 1)))
    return Box(spans[0][0], spans[1][0], spans[0][1], spans[1][1])


def view_to_image(plan: CanvasPlan, view: int, box: Box) -> Box | None:
    """Convert a box of a view to pixels of the image; None if it holds padding only.

    Args:
        plan: The image's plan.
        view: Number of the view, overview first.
        box: In pixels of the view.

    Raises:
        BoxError: If the box is empty or leaves the view, or there is no such view.
    """
    size = _size_of(plan, view)
    _check(box, size, f"view {view} of")
    return cells_to_image(plan, view_and_content(plan, view), box, size)


def image_to_view(plan: CanvasPlan, view: int, box: Box) -> Box | None:
    """Convert the part of a box of the image that a view shows to pixels of the view; None if it shows nothing of it.

    Args:
        plan: The image's plan.
        view: Number of the view, overview first.
        box: In pixels of the image.

    Raises:
        BoxError: If the box is empty or leaves the image, or there is no such view.
    """
    size = _size_of(plan, view)
    _check(box, plan.image_size, "image of")
    shown, content = view_and_content(plan, view)
    spans = []
    for axis in (0, 1):
        length, side, low = plan.image_size[axis], shown[axis + 2] - shown[axis], content[axis]
        scale = content[axis + 2] - low
        first, last = (((low - shown[axis]) * length + edge * scale) * size[axis] for edge in box[axis::2])
        first, last = max(first, 0), min(last, size[axis] * side * length)
        if first >= last:
            return None
        spans.append((first // (side * length), -(-last // (side * length))))
    (top, bottom), (left, right) = spans
    return Box(top, left, bottom, right)


def _nearest(number: int, divisor: int) -> int:
    return (2 * number + divisor) // (2 * divisor)


def _size_of(plan: CanvasPlan, view: int) -> Size:
    if not 0 <= view < plan.num_views:
        raise BoxError(f"The image has views 0 to {plan.num_views - 1}; got {view}.")
    return plan.view_sizes[view]


def _check(box: Box, size: tuple[int, int], what: str) -> None:
    height, width = size
    if not (0 <= box[0] < box[2] <= height and 0 <= box[1] < box[3] <= width):
        raise BoxError(
            f"The box (top, left, bottom, right) = {tuple(box)} is empty or leaves the {what} {height}x{width} pixels."
        )
