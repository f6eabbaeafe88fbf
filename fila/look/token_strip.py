# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The lowest part of the picture of `fila view`: the image's tokens in the order of the prompt, and the text between.

Every piece of the processor's layout is a segment as long as it has tokens; text is a gray tick. Tiles whose tokens
are read as one map are one segment.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from PIL import Image, ImageDraw

from fila.look.drawing import CARD, CHOSEN, GREY, OVERVIEW, QUIET, TILE, fit, font
from fila.look.processed_image import Seen
from fila.processing.layout import NEWLINE

STRIP, PROMPT = 122, 34
BAR, BELOW = 44, 30


@dataclass(frozen=True)
class Segment:
    """A segment of the prompt.

    Attributes:
        label: Label on the segment; the text itself if the segment has no tokens.
        short: Shorter label for less room.
        fill: Its colour.
        length: Its image tokens, newlines too; 0 for text.
        newlines: How many of them are newlines.
    """

    label: str
    short: str
    fill: str
    length: int
    newlines: int = 0


def segments(seen: Seen) -> list[Segment]:
    """Return the segments of an image's part of the prompt."""
    found = []
    for piece in seen.pieces:
        if isinstance(piece, str):
            found.append(Segment(piece.replace("\n", "\\n"), "", QUIET, 0))
            continue
        views, newlines = {seen.place(token).view for token in piece if token >= 0}, list(piece).count(NEWLINE)
        if len(views) == 1:
            found.append(_of_view(seen, views.pop(), len(piece), newlines))
        elif views:
            found.append(Segment("tiles, read as one map row by row", "tiles", TILE, len(piece), newlines))
        else:
            found.append(Segment("newline" if newlines else "separator", "", QUIET, len(piece), newlines))
    return found


def _of_view(seen: Seen, view: int, length: int, newlines: int) -> Segment:
    number = str(seen.view_order.index(view) + 1)
    fill = OVERVIEW if view < seen.first_tile else TILE
    return Segment(f"{number}  {seen.view_name(view)}", number, fill, length, newlines)


def sum_told(seen: Seen) -> str:
    """Return the sum of the image tokens as text, for instance `576 + 4 x 576 = 2,880`."""
    terms = []
    for (length, newlines), same in groupby(_lengths(seen)):
        count = len(list(same))
        parts = [f"{length - newlines:,}"] if length > newlines else []
        parts += [f"{newlines} newline{'s' * (newlines > 1)}"] if newlines else []
        terms.append(f"{count} x {' + '.join(parts)}" if count > 1 else " + ".join(parts))
    total = f"{seen.num_tokens:,}"
    return total if terms == [total] else f"{' + '.join(terms)} = {total}"


def _lengths(seen: Seen) -> list[tuple[int, int]]:
    """Return (tokens, newlines among them) of each segment that has tokens."""
    return [(segment.length, segment.newlines) for segment in segments(seen) if segment.length]


def prompt_told(seen: Seen) -> str:
    """Return the image's part of the prompt as text, with descriptions in brackets instead of tokens."""
    parts = []
    for segment in segments(seen):
        name = segment.short or segment.label
        parts.append(f"[{name}: {segment.length:,}]" if segment.length else segment.label)
    return " ".join(parts)


def strip_height(seen: Seen) -> int:
    """Return the strip's height in pixels, with a line for the prompt if it contains text."""
    return STRIP + (PROMPT if _has_text(seen) else 0)


def _has_text(seen: Seen) -> bool:
    return any(isinstance(piece, str) for piece in seen.pieces)


def draw_strip(picture: Image.Image, seen: Seen, *, left: int, right: int, tokens: Sequence[int]) -> None:
    """Draw the strip at the bottom of a picture, tokens marked on it."""
    draw = ImageDraw.Draw(picture)
    bottom = picture.size[1] - BELOW - (PROMPT if _has_text(seen) else 0)
    top = bottom - BAR
    text = f"Image tokens as the language model reads them: {sum_told(seen)}"
    draw.text((left, top - 14), fit(draw, text, 17, right - left), font=font(17), fill=GREY, anchor="ls")
    made = segments(seen)
    ticks = sum(not segment.length for segment in made)
    gap, tick = (3, 6) if len(made) < 60 else (1, 2)
    room = right - left - ticks * (tick + gap)
    x, done = float(left), 0
    for segment in made:
        width = room * segment.length / seen.num_tokens if segment.length else tick + gap
        # A newline would be too narrow to see at its true length.
        edges = [round(x), top + (0 if segment.length > 1 else 12), max(round(x + width) - gap, round(x) + 1), bottom]
        edges[3] -= 0 if segment.length > 1 else 12
        draw.rounded_rectangle(edges, radius=5 if width > 16 else 0, fill=segment.fill)
        for token in tokens:
            if done <= token < done + segment.length:
                at = round(x + width * (token - done) / segment.length)
                draw.rectangle([at, top - 4, at + 1, bottom + 4], fill=CHOSEN)
        label = segment.label if draw.textlength(segment.label, font=font(18)) < width - 16 else segment.short
        if segment.length and draw.textlength(label, font=font(18)) < width - 6:
            middle = (round(x) + round(x + width) - gap) // 2
            draw.text((middle, (top + bottom) // 2), label, font=font(18), fill=CARD, anchor="mm")
        x, done = x + width, done + segment.length
    if _has_text(seen):
        told = fit(draw, f"In the prompt: {prompt_told(seen)}", 15, right - left)
        draw.text((left, bottom + 28), told, font=font(15), fill=GREY, anchor="ls")
