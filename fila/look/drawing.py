# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Drawing helpers for the pictures of `fila view`: colours, fonts, hatching, badges.

Positions are (x, y) and sizes (width, height) as PIL wants; rectangles are (left, top, right, bottom), right and
bottom exclusive.
"""

import bisect
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK, GREY, RULE, SHEET, CARD = "#16202a", "#5f6b76", "#cfd5da", "#f4f6f7", "#ffffff"
TILE, OVERVIEW, CHOSEN, QUIET = "#e8590c", "#0b6b78", "#c2185b", "#8a96a0"
HATCH = "#9aa5ae"
BORDER = 3

Rectangle = tuple[int, int, int, int]


def font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Return Pillow's default font."""
    return ImageFont.load_default(size)


def fit(draw: ImageDraw.ImageDraw, text: str, size: int, width: float) -> str:
    """Shorten a text in the middle until it fits the width."""
    face, shortest_first = font(size), range(len(text))
    keep = bisect.bisect_left(shortest_first, True, key=lambda keep: draw.textlength(elide(text, keep), face) > width)
    return text if keep == len(text) else elide(text, max(0, keep - 1))


def elide(text: str, keep: int) -> str:
    """Return the first and last characters, `keep` in total, around three dots.

    Example:
        >>> elide("overview", 5)
        'ove...ew'
    """
    return text[: (keep + 1) // 2] + "..." + text[len(text) - keep // 2 :]


def cross(size: Sequence[int]) -> str:
    """Format height and width, or rows and columns.

    Example:
        >>> cross((336, 672))
        '336 x 672'
    """
    return f"{size[0]} x {size[1]}"


def resize(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Enlarge by repeating pixels or shrink by averaging them, to at least one pixel."""
    target = max(1, size[0]), max(1, size[1])
    grows = target[0] >= picture.size[0] and target[1] >= picture.size[1]
    return picture.resize(target, Image.Resampling.NEAREST if grows else Image.Resampling.BOX)


def hatch(picture: Image.Image, whole: Rectangle, content: Rectangle, step: int = 14) -> None:
    """Draw slanted lines over `whole` minus `content`, over the padding's own colour."""
    left, top, right, bottom = whole
    if right <= left or bottom <= top:
        return
    columns, rows = np.meshgrid(np.arange(right - left), np.arange(bottom - top))
    lines = (columns + rows) % step < 2
    lines[content[1] - top : content[3] - top, content[0] - left : content[2] - left] = False
    picture.paste(HATCH, whole, Image.fromarray((lines * 255).astype(np.uint8), "L"))


def badge(draw: ImageDraw.ImageDraw, inside: Rectangle, label: str, fill: str) -> None:
    """Draw a label in a filled, white-rimmed square in the upper left of a rectangle that has room for it."""
    left, top, right, bottom = inside
    for side, size in ((36, 21), (22, 13)):
        if right - left > 1.6 * side and bottom - top > 1.6 * side:
            x, y = left + side // 4 + 1, top + side // 4 + 1
            draw.rounded_rectangle([x, y, x + side, y + side - 2], radius=side // 6, fill=fill, outline=CARD, width=2)
            draw.text((x + side // 2, y + side // 2 - 1), label, font=font(size), fill=CARD, anchor="mm")
            return


def tint(picture: Image.Image, rectangles: Sequence[Rectangle], colour: str, outline: int = 2) -> None:
    """Tint rectangles with a translucent colour and outline them."""
    wash = Image.new("L", picture.size, 0)
    marker = ImageDraw.Draw(wash)
    for left, top, right, bottom in rectangles:
        marker.rectangle([left, top, max(left, right - 1), max(top, bottom - 1)], fill=90)
    picture.paste(colour, (0, 0), wash)
    draw = ImageDraw.Draw(picture)
    for left, top, right, bottom in rectangles:
        draw.rectangle([left - 1, top - 1, max(right, left + 1), max(bottom, top + 1)], outline=colour, width=outline)
