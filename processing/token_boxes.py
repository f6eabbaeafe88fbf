# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Map tokens to boxes of the image and boxes to tokens, exactly, in integers.

A view of (rows, cols) tokens divides its box on the canvas into as many equal cells. A cell's edges on the image are
fractions; they are compared as such, and rounded outward where a box of pixels is asked for.
"""

from collections.abc import Iterator, Sequence
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
    view, content = _view_and_content(plan, place.view)
    rows = _pixels(
        place.row, token_grid[0], (view.top, view.bottom), (content.top, content.bottom), plan.image_size[0]
    )
    cols = _pixels(
        place.col, token_grid[1], (view.left, view.right), (content.left, content.right), plan.image_size[1]
    )
    return None if rows is None or cols is None else Box(rows[0], cols[0], rows[1], cols[1])


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
        view, content = _view_and_content(plan, number)
        rows = _tokens(grid[0], (view.top, view.bottom), (content.top, content.bottom), height, (box.top, box.bottom))
        cols = list(
            _tokens(grid[1], (view.left, view.right), (content.left, content.right), width, (box.left, box.right))
        )
        found += [TokenPlace(number, row, col) for row in rows for col in cols]
    return found


def canvas_to_image(plan: CanvasPlan, box: Box) -> Box | None:
    """Convert a box of the canvas to pixels of the image, rounded outward; None if it holds padding only."""
    content, (height, width) = plan.content_box, plan.image_size
    rows = _pixels(0, 1, (box.top, box.bottom), (content.top, content.bottom), height)
    cols = _pixels(0, 1, (box.left, box.right), (content.left, content.right), width)
    return None if rows is None or cols is None else Box(rows[0], cols[0], rows[1], cols[1])


def image_to_canvas(plan: CanvasPlan, box: Box) -> Box:
    """Convert a box of the image to pixels of the canvas, rounded outward."""
    content, (height, width) = plan.content_box, plan.image_size
    return Box(
        content.top + box.top * content.size.height // height,
        content.left + box.left * content.size.width // width,
        content.top - (-box.bottom * content.size.height // height),
        content.left - (-box.right * content.size.width // width),
    )


def _view_and_content(plan: CanvasPlan, number: int) -> tuple[Box, Box]:
    """Return a view and the whole image, as boxes of the canvas, or of an overview with padding of its own."""
    if number == 0 and plan.overview_content is not None and plan.overview_size is not None:
        return Box(0, 0, *plan.overview_size), plan.overview_content
    return plan.view_boxes[number], plan.content_box


def _edge(index: int, count: int, view: tuple[int, int], content: tuple[int, int], length: int) -> int:
    """Return the start of cell `index` of an axis on the image, times `count` times the content's length."""
    on_canvas = view[0] * count + (view[1] - view[0]) * index
    return (on_canvas - content[0] * count) * length


def _pixels(
    index: int, count: int, view: tuple[int, int], content: tuple[int, int], length: int
) -> tuple[int, int] | None:
    unit = count * (content[1] - content[0])
    first = max(_edge(index, count, view, content, length), 0)
    last = min(_edge(index + 1, count, view, content, length), length * unit)
    return None if first >= last else (first // unit, -(-last // unit))


def _tokens(
    count: int, view: tuple[int, int], content: tuple[int, int], length: int, span: tuple[int, int]
) -> Iterator[int]:
    unit = count * (content[1] - content[0])
    for index in range(count):
        first, last = (_edge(index + side, count, view, content, length) for side in (0, 1))
        if first < span[1] * unit and last > span[0] * unit:
            yield index
