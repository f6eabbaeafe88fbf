# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""CanvasPlan + pixels -> overview, canvas, tiles and high-res canvas; the only resize, pad and crop of the project.

Works on `(C, H, W)` numpy arrays and torch tensors alike; the function that resizes comes from the caller's backend.
Every picture is resized in one step from the image as it came, never from a resized one. Padding is black (0).

The high-res canvas is the canvas drawn at another scale: an edge at `x` pixels lies at `x * high / low` there, rounded
half up, for `high` pixels of the high-res canvas per `low` pixels of the canvas. A content box keeps at least 1 pixel.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from .canvas_plan import Box, CanvasPlan, Size

Resize = Callable[[Any, Size], Any]


def render_overview(image: Any, plan: CanvasPlan, resize: Resize) -> Any | None:
    """The whole image stretched to the overview's size, or None when the plan has no overview."""
    return None if plan.overview_size is None else resize(image, plan.overview_size)


def render_canvas(image: Any, plan: CanvasPlan, resize: Resize) -> Any:
    """The canvas, `(C, *plan.canvas_size)`, with the image in its content box."""
    return _draw(image, plan.canvas_size, plan.content_box, resize)


def render_high_res(image: Any, plan: CanvasPlan, resize: Resize, *, low: Size, high: Size) -> Any:
    """The canvas drawn at `high / low` of its size.

    Args:
        image: `(C, H, W)`.
        plan: Its plan.
        resize: Function of the backend.
        low: Pixels of the canvas ...
        high: ... that become this many pixels of the high-res canvas.
    """
    size, box = scale_geometry(plan, low=low, high=high)
    return _draw(image, size, box, resize)


def scale_geometry(plan: CanvasPlan, *, low: Size, high: Size) -> tuple[Size, Box]:
    """Size and content box of the canvas drawn at `high / low` of its size.

    Example:
        >>> plan = CanvasPlan(Size(5, 7), Size(14, 14), Box(3, 0, 11, 14), (1, 1), (Box(0, 0, 14, 14),))
        >>> scale_geometry(plan, low=Size(14, 14), high=Size(32, 32))
        (Size(height=32, width=32), Box(top=7, left=0, bottom=25, right=32))
    """
    size = Size(*(max(1, _scaled(*edge)) for edge in zip(plan.canvas_size, low, high, strict=True)))
    top, bottom = _scaled_span(plan.content_box.top, plan.content_box.bottom, low.height, high.height, size.height)
    left, right = _scaled_span(plan.content_box.left, plan.content_box.right, low.width, high.width, size.width)
    return size, Box(top, left, bottom, right)


def cut(canvas: Any, boxes: tuple[Box, ...]) -> list[Any]:
    """The pieces of a canvas `(C, H, W)` inside the boxes."""
    return [canvas[:, box.top : box.bottom, box.left : box.right] for box in boxes]


def _draw(image: Any, size: Size, box: Box, resize: Resize) -> Any:
    content = resize(image, box.size)
    if box.size == size:
        return content
    shape = (content.shape[0], *size)
    canvas = np.zeros(shape, content.dtype) if isinstance(content, np.ndarray) else content.new_zeros(shape)
    canvas[:, box.top : box.bottom, box.left : box.right] = content
    return canvas


def _scaled(edge: int, low: int, high: int) -> int:
    return (2 * edge * high + low) // (2 * low)


def _scaled_span(start: int, stop: int, low: int, high: int, limit: int) -> tuple[int, int]:
    first = min(_scaled(start, low, high), limit - 1)
    return first, min(max(_scaled(stop, low, high), first + 1), limit)
