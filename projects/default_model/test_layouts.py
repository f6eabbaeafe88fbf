# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Arrangements of the test pages: a sheet that refuses to draw over what it has drawn, and functions that fill it.

Written without sight of what draws the training pages, and shares no code with it. Lengths are in pixels of the page,
whatever the scale that the sheet is drawn at; boxes are (left, top, right, bottom).
"""

import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from random import Random

from PIL import Image, ImageDraw, ImageFont

from .test_values import line, made_up_label

Box = tuple[int, int, int, int]
Colour = tuple[int, int, int]
TRIES = 12  # pairs that are tried for one place, since long ones do not fit everywhere
COLOURS = {
    "red": (205, 30, 40),
    "blue": (30, 70, 200),
    "green": (20, 140, 60),
    "orange": (235, 130, 20),
    "purple": (125, 45, 160),
    "grey": (125, 125, 125),
}
SHAPES = ("circle", "square", "triangle", "star", "cross")


class Face:
    """A font file, at any height of its capital letters."""

    def __init__(self, name: str, data: bytes, weight: int = 0):
        self.name, self._data, self._weight = name, data, weight
        self._fonts: dict[float, ImageFont.FreeTypeFont] = {}
        top, bottom = self._open(200).getbbox("H", anchor="ls")[1::2]
        self._size_of_pixel = 200 / (bottom - top)

    def font(self, cap_height: float) -> ImageFont.FreeTypeFont:
        """Return the font with capitals of this height."""
        key = round(cap_height, 2)
        if key not in self._fonts:
            self._fonts[key] = self._open(key * self._size_of_pixel)
        return self._fonts[key]

    def _open(self, size: float) -> ImageFont.FreeTypeFont:
        font = ImageFont.truetype(io.BytesIO(self._data), size)
        if self._weight:
            font.set_variation_by_axes([self._weight])
        return font


@dataclass(frozen=True)
class Pair:
    """A label with its value."""

    label: str
    value: str
    kind: str
    language: str


@dataclass(frozen=True)
class Shown:
    """What can be asked about a sheet: a label, or a question of its own, with the answer and where it stands."""

    label: str
    question: str
    answer: str
    kind: str
    language: str
    box: Box
    cap_height: float


Place = tuple[float, float, str]  # x, baseline, and "l", "m" or "r": what of the text stands at x


@dataclass
class Sheet:
    """Paper with what was drawn on it.

    Attributes:
        width: In pixels of the page.
        height: Likewise.
        scale: Pixels of `image` per pixel of the page.
        face: Of all its text.
        cap_height: Of a capital letter of values.
        ink: Colour of text.
        paper: Colour of the ground.
        shown: What can be asked.
        taken: Boxes of all text.
        texts: All that was written.
    """

    width: int
    height: int
    scale: int
    face: Face
    cap_height: float
    ink: Colour = (0, 0, 0)
    paper: Colour = (255, 255, 255)
    shown: list[Shown] = field(default_factory=list)
    taken: list[Box] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.image = Image.new("RGB", (self.width * self.scale, self.height * self.scale), self.paper)
        self.draw = ImageDraw.Draw(self.image)

    def box_of(self, text: str, place: Place, cap_height: float = 0) -> Box:
        """Return the box of a text's ink."""
        x, y, align = place
        font = self.face.font((cap_height or self.cap_height) * self.scale)
        start = round(x * self.scale), round(y * self.scale)
        left, top, right, bottom = font.getbbox(text, anchor=f"{align}s")
        edges = (start[0] + left, start[1] + top, start[0] + right, start[1] + bottom)
        low = [math.floor(edge / self.scale) for edge in edges[:2]]
        high = [math.ceil(edge / self.scale) for edge in edges[2:]]
        return low[0], low[1], high[0], high[1]

    def is_free(self, box: Box) -> bool:
        """Whether a box lies on the sheet and two pixels off all text."""
        left, top, right, bottom = box
        if left < 3 or top < 3 or right > self.width - 3 or bottom > self.height - 3:
            return False
        return all(right + 2 <= a or c + 2 <= left or bottom <= b or d <= top for a, b, c, d in self.taken)

    def text(self, text: str, place: Place, cap_height: float = 0, ink: Colour | None = None) -> Box | None:
        """Draw text where it is free; return its box, or None where it is not."""
        box = self.box_of(text, place, cap_height)
        if not self.is_free(box):
            return None
        x, y, align = place
        font = self.face.font((cap_height or self.cap_height) * self.scale)
        start = round(x * self.scale), round(y * self.scale)
        self.draw.text(start, text, fill=ink or self.ink, font=font, anchor=f"{align}s")
        self.taken.append(box)
        self.texts.append(text)
        return box

    def line(self, x0: float, y0: float, x1: float, y1: float, ink: Colour | None = None) -> None:
        """Draw a straight rule."""
        points = [round(each * self.scale) for each in (x0, y0, x1, y1)]
        self.draw.line(points, fill=ink or self.ink, width=self.scale)

    def frame(self, box: tuple[float, float, float, float], fill: Colour | None = None, radius: float = 0) -> None:
        """Draw a rectangle."""
        edges = [round(each * self.scale) for each in box]
        self.draw.rounded_rectangle(edges, radius * self.scale, fill=fill, outline=self.ink, width=self.scale)

    def pair(self, pair: Pair, at: Place, value_at: Place, *, colon: str = "", label_cap: float = 0) -> bool:
        """Draw a label and its value if both are free; return whether they were drawn."""
        named = pair.label + colon
        first, second = self.box_of(named, at, label_cap), self.box_of(pair.value, value_at)
        apart = first[2] + 4 <= second[0] or first[3] <= second[1] or second[3] <= first[1]
        if not (apart and self.is_free(first) and self.is_free(second)):
            return False
        self.text(named, at, label_cap)
        self.text(pair.value, value_at)
        self.shown.append(Shown(pair.label, "", pair.value, pair.kind, pair.language, second, self.cap_height))
        return True


Pairs = Iterator[Pair]
Layout = Callable[[Sheet, Random, Pairs], None]


def _first(pairs: Pairs, drawn: Callable[[Pair], bool]) -> bool:
    return any(drawn(next(pairs)) for _ in range(TRIES))


def _small(sheet: Sheet) -> float:
    """A cap height for labels that are printed smaller than their values."""
    return max(7.0, 0.85 * sheet.cap_height)


def _title(sheet: Sheet, rng: Random, y: float) -> float:
    """Draw a heading in the middle, if it fits; return the y below it."""
    cap = sheet.cap_height * rng.choice((1.0, 1.2, 1.4))
    sheet.text(made_up_label(rng).upper(), (sheet.width / 2, y + cap, "m"), cap)
    return y + 1.9 * cap


def lines(sheet: Sheet, rng: Random, pairs: Pairs) -> None:
    """Put each value right after its label."""
    step, x, gap = sheet.cap_height * rng.uniform(2, 2.8), rng.uniform(6, 14), rng.uniform(0.6, 1.6)
    y, colon = rng.uniform(4, 24) + sheet.cap_height, rng.choice((":", ":", ""))
    while y < sheet.height - 4:

        def drawn(pair: Pair, y: float = y) -> bool:
            end = sheet.box_of(pair.label + colon, (x, y, "l"))[2]
            return sheet.pair(pair, (x, y, "l"), (end + gap * sheet.cap_height, y, "l"), colon=colon)

        _first(pairs, drawn)
        y += step


def form(sheet: Sheet, rng: Random, pairs: Pairs) -> None:
    """Put labels in one column and values in another, above a rule."""
    step, x, column = sheet.cap_height * rng.uniform(2.2, 3), rng.uniform(5, 10), sheet.width * rng.uniform(0.36, 0.48)
    y, colon = rng.uniform(4, 20) + sheet.cap_height, rng.choice((":", ""))
    while y < sheet.height - 6:
        if _first(pairs, partial(sheet.pair, at=(x, y, "l"), value_at=(column, y, "l"), colon=colon)):
            below = y + 0.5 * sheet.cap_height
            sheet.line(column - 2, below, sheet.width - 5, below, (150, 150, 150))
        y += step


def bordered_table(sheet: Sheet, rng: Random, pairs: Pairs) -> None:
    """Put each pair in a row of a table with borders."""
    step, left, right = sheet.cap_height * rng.uniform(2.2, 2.8), 5, sheet.width - 5
    column, y = sheet.width * rng.uniform(0.38, 0.48), rng.uniform(4, 16)
    top = y
    while y + step < sheet.height - 5:
        base = y + step / 2 + sheet.cap_height / 2
        _first(pairs, partial(sheet.pair, at=(left + 5, base, "l"), value_at=(column + 5, base, "l")))
        sheet.line(left, y, right, y)
        y += step
    sheet.line(left, y, right, y)
    for x in (left, column, right):
        sheet.line(x, top, x, y)


def receipt(sheet: Sheet, rng: Random, pairs: Pairs) -> None:
    """Put labels at the left edge of a slip and values at its right edge."""
    step, margin = sheet.cap_height * rng.uniform(1.8, 2.2), rng.uniform(6, 18)
    right = sheet.width - margin
    y = _title(sheet, rng, rng.uniform(4, 10)) + step
    while y < sheet.height - 5:
        if rng.random() < 0.15:
            for x in range(int(margin), int(right), 6):
                sheet.line(x, y - sheet.cap_height / 2, x + 3, y - sheet.cap_height / 2)
        else:
            _first(pairs, partial(sheet.pair, at=(margin, y, "l"), value_at=(right, y, "r")))
        y += step


def letterhead(sheet: Sheet, rng: Random, pairs: Pairs) -> None:
    """Put a sender above, references in a block at the right or left, and prose under them."""
    y = _title(sheet, rng, rng.uniform(4, 8))
    sheet.line(6, y, sheet.width - 6, y, rng.choice(list(COLOURS.values())))
    y += 2 * sheet.cap_height
    x, step = rng.choice((8, sheet.width * 0.25)), 2 * sheet.cap_height
    for _ in range(rng.randint(3, 4)):

        def drawn(pair: Pair, y: float = y) -> bool:
            end = sheet.box_of(pair.label + ":", (x, y, "l"))[2]
            return sheet.pair(pair, (x, y, "l"), (end + sheet.cap_height, y, "l"), colon=":")

        _first(pairs, drawn)
        y += step
    y += step / 2
    while y < sheet.height - 5:
        sheet.text(line(rng, "made-up"), (8, y, "l"), _small(sheet), (90, 90, 90))
        y += 1.7 * sheet.cap_height


def cards(sheet: Sheet, rng: Random, pairs: Pairs) -> None:
    """Put each pair in a box, the label in its corner and the value under it."""
    small = _small(sheet)
    gap, high, columns = rng.uniform(4, 8), 2.1 * small + 2.2 * sheet.cap_height, rng.choice((1, 2))
    wide = (sheet.width - gap) / columns - gap
    radius, fill = rng.choice((0, 4)), rng.choice((None, (238, 242, 250)))
    y = gap
    while y + high < sheet.height - 3:
        for column in range(columns):
            x = gap + column * (wide + gap)

            def drawn(pair: Pair, x: float = x, y: float = y) -> bool:
                label_at, value_at = (x + 5, y + 1.6 * small, "l"), (x + 5, y + high - 0.7 * sheet.cap_height, "l")
                widest = max(sheet.box_of(pair.label, label_at, small)[2], sheet.box_of(pair.value, value_at)[2])
                if widest > x + wide - 3:
                    return False
                sheet.frame((x, y, x + wide, y + high), fill, radius)
                return sheet.pair(pair, label_at, value_at, label_cap=small)

            _first(pairs, drawn)
        y += high + gap


def value_under(sheet: Sheet, rng: Random, pairs: Pairs) -> None:
    """Put each value under its label, in one column or two."""
    _stacked(sheet, rng, pairs, above=False)


def value_above(sheet: Sheet, rng: Random, pairs: Pairs) -> None:
    """Put each value on a rule and its label below, as names stand on the line for a signature."""
    _stacked(sheet, rng, pairs, above=True)


def _stacked(sheet: Sheet, rng: Random, pairs: Pairs, *, above: bool) -> None:
    small, columns = _small(sheet), rng.choice((1, 1, 2))
    within, apart = 1.6 * sheet.cap_height + (2 if above else 0), rng.uniform(2.6, 3.2) * sheet.cap_height
    wide = (sheet.width - 12) / columns
    y = rng.uniform(4, 14) + sheet.cap_height
    while y + within < sheet.height - 5:
        for column in range(columns):
            x = 8 + column * wide

            def drawn(pair: Pair, x: float = x, y: float = y) -> bool:
                over, under = (x, y, "l"), (x, y + within, "l")
                at, value_at = (under, over) if above else (over, under)
                widest = max(sheet.box_of(pair.label, at, small)[2], sheet.box_of(pair.value, value_at)[2])
                return widest < x + wide - 4 and sheet.pair(pair, at, value_at, label_cap=small)

            if _first(pairs, drawn) and above:
                rule = y + 0.45 * sheet.cap_height
                sheet.line(x - 2, rule, x + wide - 8, rule, (120, 120, 120))
        y += within + apart


def table_with_headers(sheet: Sheet, rng: Random, pairs: Pairs) -> None:
    """Put values in the cells of a table whose rows and columns have names."""
    columns, step = rng.choice((1, 2, 2)), sheet.cap_height * rng.uniform(2.1, 2.6)
    edges = [
        5 + (sheet.width - 10) * (0 if at == 0 else 0.36 + 0.64 * (at - 1) / columns) for at in range(columns + 2)
    ]
    y = rng.uniform(4, 20)

    def named(at: int, y: float) -> str:
        for _ in range(TRIES):
            label = next(pairs).label
            if sheet.box_of(label, (edges[at] + 4, y, "l"))[2] < edges[at + 1] - 2 and sheet.text(
                label, (edges[at] + 4, y, "l")
            ):
                return label
        return ""

    filled = rng.random() < 0.5
    if filled:
        sheet.frame((5, y, sheet.width - 5, y + step), (222, 228, 236))
    base = (step + sheet.cap_height) / 2
    headers = [named(at + 1, y + base) for at in range(columns)]
    y += step
    while y + step < sheet.height - 5:
        sheet.line(5, y, sheet.width - 5, y)
        row = named(0, y + base)
        for at, header in enumerate(headers):
            place = (edges[at + 1] + 4, y + base, "l")
            for _ in range(3 * TRIES):
                pair = next(pairs)
                end = sheet.box_of(pair.value, place)[2]
                if end < edges[at + 2] - 2 and (box := sheet.text(pair.value, place)):
                    if row and header:
                        found = Shown(
                            f"{header} of {row}", "", pair.value, pair.kind, pair.language, box, sheet.cap_height
                        )
                        sheet.shown.append(found)
                    break
        y += step


def dialog(sheet: Sheet, rng: Random, pairs: Pairs) -> None:
    """Put values in the fields of a window, as on a screenshot, beside or under their labels."""
    cap, bar = sheet.cap_height, 2.4 * sheet.cap_height
    shade = rng.choice(((40, 80, 150), (60, 60, 66), (200, 205, 212)))
    sheet.frame((2, 2, sheet.width - 3, sheet.height - 3), (240, 240, 242), 3)
    sheet.frame((2, 2, sheet.width - 3, 2 + bar), shade)
    title = (255, 255, 255) if sum(shade) < 500 else (20, 20, 20)
    sheet.text(made_up_label(rng), (10, 2 + 0.7 * bar, "l"), cap, title)
    beside, y = rng.random() < 0.5, bar + 10
    column = sheet.width * 0.42 if beside else 10
    high = 2 * cap
    while True:
        top = y if beside else y + 1.7 * cap
        if top + high > sheet.height - 8:
            return

        def drawn(pair: Pair, y: float = y, top: float = top) -> bool:
            at = (10, top + 1.5 * cap if beside else y + cap, "l")
            value_at = (column + 5, top + 1.5 * cap, "l")
            if sheet.box_of(pair.value, value_at)[2] > sheet.width - 14:
                return False
            if beside and sheet.box_of(pair.label, at)[2] > column - 4:
                return False
            sheet.frame((column, top, sheet.width - 10, top + high), (255, 255, 255), 2)
            return sheet.pair(pair, at, value_at)

        _first(pairs, drawn)
        y = top + high + rng.uniform(0.7, 1.1) * cap


def prose(sheet: Sheet, rng: Random, language: str) -> None:
    """Fill a sheet with lines of words; a line is asked for by its first words, as many as tell it from the others."""
    step, x, y = sheet.cap_height * rng.uniform(1.9, 2.5), rng.uniform(6, 12), rng.uniform(5, 20) + sheet.cap_height
    drawn: list[tuple[str, Box]] = []
    while y < sheet.height - 5:
        texts = (line(rng, language) for _ in range(TRIES))
        for text in texts:
            box = sheet.text(text, (x, y, "l")) if " " in text else None
            if box:
                drawn.append((text, box))
                break
        y += step
    for text, box in drawn:
        question = line_question(text, [each for each, _ in drawn])
        if question:
            sheet.shown.append(Shown("", question, text, "line", language, box, sheet.cap_height))


def line_question(text: str, texts: list[str]) -> str:
    """Return what asks for a line by its first word or two.

    It is "" if other lines begin alike, nothing of the line is left, or the words end with a sign, since a full stop
    ends the question.
    """
    for count in (1, 2):
        start = text.split()[:count]
        alone = sum(each.split()[:count] == start for each in texts) == 1
        if alone and len(text.split()) > count and start[-1][-1].isalnum():
            return f"Read the line that begins with {' '.join(start)}."
    return ""


def stamp(sheet: Sheet, rng: Random, pairs: Pairs) -> None:
    """Put a coloured shape in a corner, and let a layout fill what is left of the sheet."""
    colour, shape, radius = rng.choice(list(COLOURS)), rng.choice(SHAPES), rng.uniform(20, 30)
    vertical, horizontal = rng.choice(("top", "bottom")), rng.choice(("left", "right"))
    x = radius + 8 if horizontal == "left" else sheet.width - radius - 8
    y = radius + 8 if vertical == "top" else sheet.height - radius - 8
    box = (math.floor(x - radius), math.floor(y - radius), math.ceil(x + radius), math.ceil(y + radius))
    sheet.taken.append(box)
    _shape(sheet, shape, x, y, radius, COLOURS[colour])
    for question, answer, kind in (
        ("What colour is the stamp?", colour, "colour"),
        ("What shape is the stamp?", shape, "shape"),
        ("Where is the stamp?", f"{vertical} {horizontal}", "place"),
    ):
        sheet.shown.append(Shown("", question, answer, kind, "english", box, 0))
    lines(sheet, rng, pairs)


def _shape(sheet: Sheet, shape: str, x: float, y: float, radius: float, fill: Colour) -> None:
    def ring(count: int, radii: tuple[float, ...]) -> list[tuple[float, float]]:
        turns = [(2 * math.pi * at / count - math.pi / 2, radii[at % len(radii)]) for at in range(count)]
        return [((x + r * math.cos(t)) * sheet.scale, (y + r * math.sin(t)) * sheet.scale) for t, r in turns]

    def bars(wide: float, high: float) -> list[float]:
        return [(x - wide) * sheet.scale, (y - high) * sheet.scale, (x + wide) * sheet.scale, (y + high) * sheet.scale]

    if shape == "circle":
        sheet.draw.ellipse(bars(radius, radius), fill=fill)
    elif shape == "square":
        sheet.draw.rectangle(bars(0.85 * radius, 0.85 * radius), fill=fill)
    elif shape == "cross":
        sheet.draw.rectangle(bars(radius, radius / 3), fill=fill)
        sheet.draw.rectangle(bars(radius / 3, radius), fill=fill)
    else:
        sheet.draw.polygon(ring(3, (radius,)) if shape == "triangle" else ring(10, (radius, radius / 2.4)), fill=fill)


def boxes_to_tick(sheet: Sheet, rng: Random, pairs: Pairs) -> None:
    """Put small boxes before labels and tick one of them."""
    side, step, x = 1.2 * sheet.cap_height, sheet.cap_height * rng.uniform(2.2, 3), rng.uniform(8, 16)
    y = rng.uniform(8, 30) + sheet.cap_height
    found: list[tuple[Pair, Box, float]] = []
    while y < sheet.height - 6 and len(found) < 7:
        for _ in range(TRIES):
            pair = next(pairs)
            if box := sheet.text(pair.label, (x + 2 * side, y, "l")):
                sheet.frame((x, y - side, x + side, y))
                found.append((pair, box, y))
                break
        y += step
    ticked = rng.randrange(len(found))
    bottom = found[ticked][2]
    a, b, c = (x + 0.2 * side, bottom - 0.5 * side), (x + 0.45 * side, bottom - 0.2 * side), (x + side, bottom - side)
    if rng.random() < 0.5:
        sheet.line(*a, *b)
        sheet.line(*b, *c)
    else:
        sheet.line(x + 2, bottom - side + 2, x + side - 2, bottom - 2)
        sheet.line(x + 2, bottom - 2, x + side - 2, bottom - side + 2)
    label, language = found[ticked][0].label, found[ticked][0].language
    cap = sheet.cap_height
    sheet.shown.append(Shown("", "Which box is ticked?", label, "ticked label", language, found[ticked][1], cap))
    for at in dict.fromkeys((ticked, (ticked + 1) % len(found))):
        pair, _, y = found[at]
        box = (math.floor(x), math.floor(y - side), math.ceil(x + side), math.ceil(y))
        answer = "yes" if at == ticked else "no"
        sheet.shown.append(Shown("", f"Is the box {pair.label} ticked?", answer, "ticked", pair.language, box, cap))


INLINE: tuple[Layout, ...] = (lines, form)
OTHERS: tuple[Layout, ...] = (
    bordered_table, receipt, letterhead, cards, value_under, value_above, table_with_headers, dialog,
)  # fmt: skip
