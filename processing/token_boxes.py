# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Map tokens to boxes of the image and boxes to tokens, exactly, in integers.

A view of (rows, cols) tokens divides its box on the canvas into as many equal cells. A cell's edges on the image are
fractions; they are compared as such, and rounded outward where a box of pixels is asked for.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from .canvas_plan import Box, CanvasPlan


class TokenPlace(NamedTuple):
    """A token of an image: its view (overview first), its row and column there."""

    view: int
    row: int
    col: int


def token_box(plan: CanvasPlan, place: TokenPlace, token_grid: tuple[int, int]) -> Box | None:
    """Return the box of image pixels that a token shows, each of them at least in part.

    Args:
        plan: The image's plan.
        place: The token.
        token_grid: Tokens per axis of its view, (rows, cols).

    Returns:
        Box in pixels of the image, or None for a token that shows padding only.

    Example:
        >>> from .canvas_plan import Size
        >>> plan = CanvasPlan(Size(50, 100), Size(28, 28), Box(7, 0, 21, 28), (1, 1), (Box(0, 0, 28, 28),))
        >>> token_box(plan, TokenPlace(0, 1, 3), (4, 4))
        Box(top=0, left=75, bottom=25, right=100)
        >>> token_box(plan, TokenPlace(0, 0, 3), (4, 4)) is None
        True
    """
    cell = Box(place.row, place.col, place.row + 1, place.col + 1)
    return cells_to_image(plan, view_and_content(plan, place.view), cell, token_grid)


def tokens_in(plan: CanvasPlan, box: Box, token_grids: Sequence[tuple[int, int]]) -> list[TokenPlace]:
    """Return the tokens that show a part of a box of the image, view by view and row-major.

    Args:
        plan: The image's plan.
        box: In pixels of the image.
        token_grids: Tokens per axis of each view, (rows, cols), overview first.

    Raises:
        ValueError: If the box is empty or leaves the image, or the grids are not one per view.
    """
    height, width = plan.image_size
    if not (0 <= box.top < box.bottom <= height and 0 <= box.left < box.right <= width):
        raise ValueError(f"The box {tuple(box)} is empty or leaves the {height}x{width} image.")
    found = []
    for number, (_, grid) in enumerate(zip(plan.view_boxes, token_grids, strict=True)):
        view, content = view_and_content(plan, number)
        rows = _tokens(view, content, 0, grid[0], height, (box.top, box.bottom))
        cols = _tokens(view, content, 1, grid[1], width, (box.left, box.right))
        found += [TokenPlace(number, row, col) for row in rows for col in cols]
    return found


def canvas_to_image(plan: CanvasPlan, box: Box) -> Box | None:
    """Convert a box of the canvas to pixels of the image, rounded outward; None if it holds padding only."""
    return cells_to_image(plan, (box, plan.content_box), Box(0, 0, 1, 1), (1, 1))


def cells_to_image(
    plan: CanvasPlan, view_and_content: tuple[Box, Box], cells: Box, grid: tuple[int, int]
) -> Box | None:
    """Convert a box of cells of a view to pixels of the image, rounded outward; None if it holds padding only.

    Args:
        plan: The image's plan.
        view_and_content: See the function of that name.
        cells: In cells of the view.
        grid: Cells per axis of the view, (rows, cols).
    """
    view, content = view_and_content
    spans = []
    for axis in (0, 1):
        length = plan.image_size[axis]
        edge, unit = cell_edges(view, content, axis, grid[axis], length)
        first, last = max(edge(cells[axis]), 0), min(edge(cells[axis + 2]), length * unit)
        if first >= last:
            return None
        spans.append((first // unit, -(-last // unit)))
    (top, bottom), (left, right) = spans
    return Box(top, left, bottom, right)


def image_to_canvas(plan: CanvasPlan, box: Box) -> Box:
    """Convert a box of the image to pixels of the canvas, rounded outward."""
    content, (height, width) = plan.content_box, plan.image_size
    return Box(
        content.top + box.top * content.size.height // height,
        content.left + box.left * content.size.width // width,
        content.top - (-box.bottom * content.size.height // height),
        content.left - (-box.right * content.size.width // width),
    )


def view_and_content(plan: CanvasPlan, number: int) -> tuple[Box, Box]:
    """Return a view and the whole image, as boxes of the canvas, or of an overview with padding of its own."""
    if number == 0 and plan.overview_content is not None and plan.overview_size is not None:
        return Box(0, 0, *plan.overview_size), plan.overview_content
    return plan.view_boxes[number], plan.content_box


def cell_edges(view: Box, content: Box, axis: int, count: int, length: int) -> tuple[Callable[[int], int], int]:
    """Return where the cells of a view begin on an axis of the image, exactly.

    Args:
        view: The view, and
        content: the whole image, as `view_and_content` returns them.
        axis: 0 for rows, 1 for columns.
        count: Cells of the view on this axis.
        length: Pixels of the image on this axis.

    Returns:
        A function from the number of a cell to its start, which is that of padding where it lies outside of the
        image; and the number of its units in a pixel of the image.
    """
    start, size, origin = view[axis], view[axis + 2] - view[axis], content[axis]
    unit = count * (content[axis + 2] - origin)
    return lambda index: ((start - origin) * count + size * index) * length, unit


def _tokens(view: Box, content: Box, axis: int, count: int, length: int, span: tuple[int, int]) -> list[int]:
    edge, unit = cell_edges(view, content, axis, count, length)
    return [index for index in range(count) if edge(index) < span[1] * unit and edge(index + 1) > span[0] * unit]
