# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Pages that people print, and questions about them, for the second edition of the default model.

A page is a pure function of its seed. One in three is a page of the first edition (`varied`), so that what was read
stays read. The others are forms, receipts, tables, boxes, letters and screens with values of every kind, as clean
print, scans or photographs. Some questions are about what is not there, and some about what is not text.
"""

import io
import math
import re
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
from PIL import Image, ImageFilter, ImageFont

from fila.processing.image_processing_fila import FilaImageProcessor, FilaImageProcessorPil
from fila.training.page_fonts import Face
from fila.training.page_sheet import Glyph, Sheet, blank_sheet, degrade
from fila.training.pages import make_page

from .printed_values import LONGEST, in_case, invented_word, make_label, make_value, make_word, random_language

CAP_HEIGHTS = (7.0, 16.0)  # of a capital letter, in pixels of the high-res canvas
ABSENT = "not on the page"
SHARE_OF_FIRST_EDITION, SHARE_ABSENT, SHARE_LINES = 1 / 3, 0.08, 0.06
QUESTIONS = (
    *("What is the {label}?",) * 8,
    "What is {label}?",
    "{label}?",
    "Read the value of {label}.",
    "What does the page say for {label}?",
    'What is written at "{label}"?',
    "Which value belongs to {label}?",
    "Give me the {label}.",
    "What stands beside {label}?",
    "Tell me the {label}",
    "Was steht bei {label}?",
    "Quel est {label} ?",
    "¿Cuál es {label}?",
)
CELLS = ("What is the {column} of {row}?", "What is the {column} for {row}?", "{row}: {column}?")
LINES = ("Read the line that begins with {start}.", 'Which line begins with "{start}"?')
COLOURS = {
    "red": (205, 35, 40),
    "blue": (40, 80, 205),
    "green": (30, 145, 60),
    "orange": (240, 140, 20),
    "purple": (130, 50, 160),
    "black": (20, 20, 20),
    "yellow": (235, 205, 30),
    "brown": (125, 75, 35),
}
SHAPES = ("circle", "square", "triangle", "star", "diamond", "ring", "cross")
CORNERS = {"top left": (0, 0), "top right": (1, 0), "bottom left": (0, 1), "bottom right": (1, 1)}

Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class PrintedField:
    """A value on a page and what it is called.

    Attributes:
        label: What questions call it; "column | row" names a cell of a table.
        value: As printed.
        kind: Of the value, a name in `printed_values.KINDS`, or of the first edition.
        box: Around the value, in pixels of the page.
        cap_height: Height of a capital letter in pixels of the page.
    """

    label: str
    value: str
    kind: str
    box: Box
    cap_height: float


@dataclass
class PrintedPage:
    """A page, what is on it, and where.

    Attributes:
        image: RGB.
        fields: In reading order; labels differ.
        glyphs: Every character, its centre in pixels of the page.
        lines: Texts that were written in one line of their own.
        things: Questions about what is not text, with answers.
        layout: Name of the layout.
        family: Name of the font family of its text.
        scan: "clean", "scan", "worse" or "photo".
        texts: Everything that was written, to know what is absent.
    """

    image: Image.Image
    fields: list[PrintedField]
    glyphs: list[Glyph]
    lines: list[str]
    things: list[tuple[str, str]]
    layout: str
    family: str
    scan: str
    texts: list[str]


@dataclass
class _Writer:
    """What a layout writes with: a sheet, fonts, a language, and the boxes that are taken."""

    sheet: Sheet
    rng: Random
    face: Face
    label_face: Face
    cap: float
    language: str
    fields: list[PrintedField] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    things: list[tuple[str, str]] = field(default_factory=list)
    taken: list[Box] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.width, self.height = self.sheet.image.size
        self.margin = self.width * self.rng.uniform(0.03, 0.07)
        self.pitch = self.cap * self.rng.uniform(1.9, 2.7)
        self.top = self.margin + self.cap
        self.fonts: dict[tuple[bool, float], Any] = {}

    def font(self, label: bool, size: float) -> ImageFont.FreeTypeFont:
        """Return the font of labels or values at a share of the page's cap height."""
        face = self.label_face if label else self.face
        if (label, size) not in self.fonts:
            self.fonts[label, size] = face.at_cap_height(self.cap * size)
        return self.fonts[label, size]

    def width_of(self, text: str, *, label: bool = False, size: float = 1) -> float:
        """Return the width of a text in pixels."""
        return self.sheet.width_of(text, self.font(label, size))

    def box_of(self, x: float, baseline: float, text: str, *, label: bool = False, size: float = 1) -> Box:
        """Return the box of a text with the room above and below it that another line must leave."""
        cap = self.cap * size
        return (x, baseline - cap * 1.35, x + self.width_of(text, label=label, size=size), baseline + cap * 0.45)

    def is_free(self, *boxes: Box) -> bool:
        """Return whether boxes lie on the page and touch nothing that was written."""
        gap = self.cap * 0.3
        return all(
            box[0] >= 1
            and box[1] >= 0
            and box[2] <= self.width - 2
            and box[3] <= self.height - 1
            and all(
                box[2] + gap <= other[0] or other[2] + gap <= box[0] or box[3] <= other[1] or other[3] <= box[1]
                for other in self.taken
            )
            for box in boxes
        )

    def write(self, x: float, baseline: float, text: str, *, label: bool = False, size: float = 1) -> float:
        """Write a text and return where it ends."""
        self.taken.append(self.box_of(x, baseline, text, label=label, size=size))
        self.texts.append(text)
        return self.sheet.write(x, baseline, text, self.font(label, size), cap=self.cap * size)

    def loose(self, x: float, baseline: float, text: str, *, label: bool = False, size: float = 1) -> bool:
        """Write a text that is a line of its own, if there is room."""
        if not self.is_free(self.box_of(x, baseline, text, label=label, size=size)):
            return False
        self.write(x, baseline, text, label=label, size=size)
        self.lines.append(text)
        return True

    def label(self) -> str:
        """Return a label that the page does not have yet."""
        while True:
            language = self.language if self.rng.random() < 0.9 else None
            text = make_label(self.rng, language)
            if all(text.lower() != other.label.lower() for other in self.fields):
                return text

    def pair(self, room: float, *, stacked: bool = False) -> tuple[str, str, str]:
        """Return a new label, a kind and a value that fit into so many pixels, beside each other or stacked."""
        for _ in range(12):
            label, (kind, value) = self.label(), make_value(self.rng, self.language)
            widths = self.width_of(label, label=True), self.width_of(value)
            if (max(widths) if stacked else sum(widths) + self.cap * 1.7) <= room:
                break
        return label, kind, value

    def put(
        self,
        label: str,
        kind: str,
        value: str,
        at: tuple[float, float],
        value_at: tuple[float, float],
        *,
        joint: str = "",
        size: float = 1,
        label_size: float = 1,
        right: float | None = None,
    ) -> bool:
        """Write a label and a value at two places, if there is room, and keep the field."""
        boxes = (
            self.box_of(*at, label + joint, label=True, size=label_size),
            self.box_of(*value_at, value, size=size),
        )
        if right is not None and max(box[2] for box in boxes) > right:
            return False
        first, second = boxes
        apart = first[2] < second[0] or second[2] < first[0] or first[3] <= second[1] + 1 or second[3] <= first[1] + 1
        if not (apart and self.is_free(*boxes)):
            return False
        self.write(*at, label + joint, label=True, size=label_size)
        self.write(*value_at, value, size=size)
        self.keep(label, kind, value, second, size)
        return True

    def keep(self, label: str, kind: str, value: str, box: Box, size: float = 1) -> None:
        """Enter a field that was written."""
        _, top, _, bottom = self.font(False, size).getbbox("H", anchor="ls")
        self.fields.append(PrintedField(label, value, kind, box, bottom - top))

    def sentence(self, longest: float) -> str:
        """Return words without meaning that are not wider than so many pixels."""
        words = [make_word(self.rng, self.language) for _ in range(self.rng.randint(3, 12))]
        words[0] = words[0].capitalize()
        while len(words) > 1 and self.width_of(" ".join(words)) > longest:
            words.pop()
        return " ".join(words)[: LONGEST * 2] + self.rng.choice((".", ".", "", ",", ":"))

    def title(self) -> None:
        """Write a heading, most of the time; in the middle or on the left."""
        if self.rng.random() < 0.6:
            size = self.rng.uniform(1.2, 1.8)
            text = self.rng.choice((make_label(self.rng, self.language), self.sentence(self.width / 3)))
            text = in_case(self.rng, text, capital=0.5, upper=0.3)
            width = self.width_of(text, label=True, size=size)
            if width < self.width - 2 * self.margin:
                x = self.margin if self.rng.random() < 0.6 else (self.width - width) / 2
                baseline = self.top + self.cap * (size - 1)
                if self.loose(x, baseline, text, label=True, size=size):
                    self.top = baseline + self.pitch * 1.2

    def rows(self, pitch: float | None = None) -> Iterator[float]:
        """Yield baselines from the top of the page to its bottom."""
        baseline = self.top
        while baseline < self.height - self.margin * 0.7:
            yield baseline
            baseline += pitch or self.pitch

    def columns(self, most: int, narrowest: float) -> list[tuple[float, float]]:
        """Return left and right edges of at most so many columns; `narrowest` is in heights of a capital letter."""
        gap = self.cap * 1.5
        usable = self.width - 2 * self.margin
        count = max(1, min(most, int((usable + gap) / (narrowest * self.cap + gap))))
        each = (usable - (count - 1) * gap) / count
        return [(self.margin + n * (each + gap), self.margin + n * (each + gap) + each) for n in range(count)]


def _inline(writer: _Writer) -> None:
    """Write labels and values in one line, values beside them or on one edge, now and then a line of text between."""
    writer.title()
    rng, one = writer.rng, writer.rng.random() < 0.6
    columns = writer.columns(1 if one else 2, 17)
    joint = rng.choice((":", ":", "", " :", " -", " =", "."))
    indent = rng.choice((None, None, rng.uniform(9, 14) * writer.cap))
    underlined = rng.random() < 0.2
    for baseline in writer.rows():
        for left, right in columns:
            if rng.random() < 0.06:
                writer.loose(left, baseline, writer.sentence(right - left))
                continue
            label, kind, value = writer.pair(right - left)
            end = left + writer.width_of(label + joint, label=True) + writer.cap * rng.choice((0.6, 0.9, 1.2))
            start = end if indent is None else max(end, left + indent)
            if writer.put(label, kind, value, (left, baseline), (start, baseline), joint=joint, right=right):
                if len(columns) == 1:
                    writer.lines.append(f"{label}{joint} {value}")
                if underlined:
                    y = baseline + writer.cap * 0.42
                    writer.sheet.rule((start, y), (right, y))


def _stacked(writer: _Writer) -> None:
    """Write a grid of values right under or right above their labels, in boxes or not."""
    writer.title()
    rng = writer.rng
    above = rng.random() < 0.5
    label_size = rng.choice((1.0, 1.0, 0.85))
    size = rng.choice((1.0, 1.0, 1.2))
    label_size = label_size if writer.cap * label_size > 6.5 else 1.0
    columns = writer.columns(rng.choice((1, 2, 2, 3)), 9)
    boxed = rng.random() < 0.4
    step = writer.cap * rng.uniform(1.9, 2.3)
    pitch = step + writer.cap * (rng.uniform(2.9, 3.6) if boxed else rng.uniform(2.7, 4.2))
    writer.top += writer.cap * 0.6 * boxed
    for baseline in writer.rows(pitch):
        for left, right in columns:
            label, kind, value = writer.pair((right - left) / max(size, label_size), stacked=True)
            upper, lower = (left, baseline), (left, baseline + step)
            inside = writer.cap * 0.5 if boxed else 0.0
            upper, lower = (upper[0] + inside, upper[1]), (lower[0] + inside, lower[1])
            if rng.random() < 0.15 and not boxed:  # the value flush right
                shift = max(0.0, right - left - writer.width_of(value, size=size) - inside)
                shift = min(shift, writer.cap * 3)
                upper, lower = (
                    ((upper[0] + shift, upper[1]), lower) if above else (upper, (lower[0] + shift, lower[1]))
                )
            at, value_at = (lower, upper) if above else (upper, lower)
            edges = (left, baseline - writer.cap * 1.7, right, baseline + step + writer.cap * 0.85)
            if edges[3] > writer.height - 2:
                return
            ok = writer.put(label, kind, value, at, value_at, size=size, label_size=label_size, right=right - inside)
            if ok and boxed:
                _frame(writer, edges)


def _frame(writer: _Writer, box: Box) -> None:
    between = tuple((a + b) // 2 for a, b in zip(writer.sheet.ink, writer.sheet.paper, strict=True))
    writer.sheet.draw.rounded_rectangle(box, radius=writer.rng.choice((0, 0, 3)), outline=between)


def _receipt(writer: _Writer) -> None:
    """Write a shop's name in the middle, things on the left with prices flush right, rules, a total."""
    rng = writer.rng
    left = writer.width * rng.uniform(0.03, 0.2)
    right = writer.width - left
    for _ in range(rng.choice((1, 2, 3))):
        text = writer.sentence((right - left) * 0.8)
        if rng.random() < 0.5:
            text = make_value(rng, writer.language, kind=rng.choice(("phone", "place", "name", "web", "date")))[1]
        x = (writer.width - writer.width_of(text)) / 2
        if writer.loose(x, writer.top, text):
            writer.top += writer.pitch
    dots = rng.random() < 0.25
    kinds = rng.choice((("money",), ("money", "number", "measure"), None))
    sign = rng.choice((True, False))
    for baseline in writer.rows():
        if rng.random() < 0.09:
            y = baseline - writer.cap * 0.6
            writer.sheet.rule((left, y), (right, y))
            continue
        label, kind, value = writer.pair(right - left)
        if kinds:
            kind, value = make_value(rng, writer.language, kind=rng.choice(kinds))
        if kinds and rng.random() < 0.5:
            label = in_case(rng, make_word(rng, writer.language), capital=0.5, upper=0.4)
            if rng.random() < 0.5:
                label += " " + make_word(rng, writer.language)
            if any(label.lower() == each.label.lower() for each in writer.fields):
                continue
        if kind == "money" and sign and kinds:
            value = re.sub(r"^[^\d+-]+|\D+$", "", value)
        start = right - writer.width_of(value)
        if writer.put(label, kind, value, (left, baseline), (start, baseline)):
            if dots:
                end = left + writer.width_of(label, label=True)
                count = int((start - end - writer.cap) / max(writer.width_of(" ."), 1))
                if count > 1:
                    writer.sheet.draw.text(
                        (end + writer.cap / 2, baseline),
                        " ." * count,
                        writer.sheet.ink,
                        writer.font(False, 1),
                        anchor="ls",
                    )
            else:
                writer.lines.append(f"{label} {value}")


def _header_table(writer: _Writer) -> None:
    """Write a table with a header row and names of rows; a cell is asked for by column and row."""
    writer.title()
    rng, cap = writer.rng, writer.cap
    count = rng.choice((2, 2, 3, 3, 4))
    width = writer.width - 2 * writer.margin
    first = width * rng.uniform(0.3, 0.45)
    each = (width - first) / (count - 1)
    edges = [writer.margin, *(writer.margin + first + n * each for n in range(count))]
    pad = cap * 0.5

    def fitting(make: Callable[[], str], column: int, label: bool) -> str | None:
        room = edges[column + 1] - edges[column] - 2 * pad
        for _ in range(12):
            if writer.width_of(text := make(), label=label) <= room:
                return text
        return None

    heads = [fitting(writer.label, column, True) for column in range(count)]
    if None in heads or len({str(head).lower() for head in heads}) < count:
        _inline(writer)
        return
    grid, shaded = rng.random() < 0.6, rng.random() < 0.4
    flush_right = rng.random() < 0.4
    kinds = [rng.choice((None, "money", "number", "date", "code", "words", "measure", "percent")) for _ in heads]
    baselines = list(writer.rows())[: rng.randint(4, 14)]
    if shaded:
        writer.sheet.shade(
            (edges[0], baselines[0] - writer.pitch * 0.68, edges[-1], baselines[0] + writer.pitch * 0.32)
        )
    names: list[str] = []
    for number, baseline in enumerate(baselines):
        bottom = baseline + writer.pitch * 0.34
        if bottom > writer.height - 2:
            break
        if grid:
            for x in edges:
                writer.sheet.rule((x, bottom - writer.pitch), (x, bottom))
            writer.sheet.rule((edges[0], bottom), (edges[-1], bottom))
            if not number:
                writer.sheet.rule((edges[0], bottom - writer.pitch), (edges[-1], bottom - writer.pitch))
        elif not number:
            writer.sheet.rule((edges[0], bottom), (edges[-1], bottom))
        name = None
        for column, head in enumerate(heads):
            x = edges[column] + pad
            if not number:
                writer.write(x, baseline, str(head), label=True)
                continue
            drawn = make_value(rng, writer.language, kind=kinds[column]) if column else ("", "")
            if column:
                for _ in range(8):
                    if writer.width_of(drawn[1]) <= edges[column + 1] - edges[column] - 2 * pad:
                        break
                    drawn = make_value(rng, writer.language, kind=kinds[column])
                text = drawn[1]
            else:
                text = fitting(lambda: _row_name(writer), 0, False) or ""
                name = text if text.lower() not in names else None
                names.append(text.lower())
            wide = writer.width_of(text)
            if not text or wide > edges[column + 1] - edges[column] - 2 * pad:
                continue
            if column and flush_right:
                x = edges[column + 1] - pad - wide
            box = writer.box_of(x, baseline, text)
            writer.write(x, baseline, text)
            if column and name:
                writer.keep(f"{head} | {name}", drawn[0], text, box)


def _row_name(writer: _Writer) -> str:
    if writer.rng.random() < 0.6:
        return in_case(writer.rng, make_word(writer.rng, writer.language), capital=0.7)
    return writer.label() if writer.rng.random() < 0.5 else make_value(writer.rng, writer.language, kind="code")[1]


def _bordered(writer: _Writer) -> None:
    """Write a ruled table of labels and values, in one or two pairs of columns."""
    writer.title()
    rng = writer.rng
    share = rng.uniform(0.38, 0.52)
    for left, right in writer.columns(rng.choice((1, 1, 2)), 18):
        split, pad = left + (right - left) * share, writer.cap * 0.5
        for baseline in writer.rows():
            top, bottom = baseline - writer.pitch * 0.66, baseline + writer.pitch * 0.34
            if bottom > writer.height - 2:
                break
            for _ in range(8):
                label, kind, value = writer.pair(right - left)
                if (
                    left + 2 * pad + writer.width_of(label, label=True) <= split
                    and writer.width_of(value) + 2 * pad <= right - split
                ):
                    break
            if left + 2 * pad + writer.width_of(label, label=True) > split:
                continue
            if writer.put(
                label, kind, value, (left + pad, baseline), (split + pad, baseline), right=right - pad * 0.6
            ):
                for x in (left, split, right):
                    writer.sheet.rule((x, top), (x, bottom))
                writer.sheet.rule((left, top), (right, top))
                writer.sheet.rule((left, bottom), (right, bottom))


def _cards(writer: _Writer) -> None:
    """Write boxes with a heading each, fields inside: beside, under or above their labels."""
    rng, cap = writer.rng, writer.cap
    columns = writer.columns(rng.choice((1, 1, 2)), 16)
    for left, right in columns:
        top = writer.margin
        while top + cap * 6 < writer.height - writer.margin:
            height = min(cap * rng.uniform(7, 15), writer.height - writer.margin - top)
            _frame(writer, (left, top, right, top + height))
            x, baseline = left + cap * 0.8, top + cap * 2
            if rng.random() < 0.5:
                head = make_label(rng, writer.language)
                if writer.width_of(head, label=True) < right - left - cap * 1.6:
                    writer.loose(x, baseline, head, label=True)
                    baseline += writer.pitch
            way = rng.choice(("beside", "under", "above"))
            while baseline + cap * 0.5 + (way != "beside") * cap * 2 < top + height:
                label, kind, value = writer.pair(right - x - cap, stacked=way != "beside")
                if way == "beside":
                    start = x + writer.width_of(label + ":", label=True) + cap
                    writer.put(
                        label, kind, value, (x, baseline), (start, baseline), joint=":", right=right - cap * 0.5
                    )
                    baseline += writer.pitch
                else:
                    upper, lower = (x, baseline), (x, baseline + cap * 2)
                    at, value_at = (upper, lower) if way == "under" else (lower, upper)
                    writer.put(label, kind, value, at, value_at, right=right - cap * 0.5)
                    baseline += cap * rng.uniform(4.6, 5.2)
            top += height + cap * rng.uniform(0.6, 1.2)


def _letter(writer: _Writer) -> None:
    """Write a letter: a sender, an address, fields of reference, sentences with values in them."""
    rng, cap = writer.rng, writer.cap
    right_side = rng.random() < 0.4
    for kind in ("name", "place", "place", rng.choice(("phone", "email", "web"))):
        text = make_value(rng, writer.language, kind=kind)[1]
        x = writer.width - writer.margin - writer.width_of(text) if right_side else writer.margin
        if writer.loose(x, writer.top, text):
            writer.top += cap * 1.9
    writer.top += cap
    if rng.random() < 0.5:
        y = writer.top - cap * 1.6
        writer.sheet.rule((writer.margin, y), (writer.width - writer.margin, y))
    inside = {"en": " is ", "de": " ist ", "fr": " est ", "es": " es "}[writer.language]
    for baseline in writer.rows():
        x, right = writer.margin, writer.width - writer.margin
        draw = rng.random()
        if draw < 0.3:
            writer.loose(x, baseline, writer.sentence(right - x))
            continue
        label, kind, value = writer.pair((right - x) * (0.7 if draw < 0.6 else 0.95))
        joint = rng.choice((": ", inside, ": "))
        if draw < 0.6:
            before = writer.sentence((right - x) * 0.3).rstrip(".,:") + " "
            if not writer.is_free((x, baseline - cap * 1.35, x + writer.width_of(before), baseline + cap * 0.45)):
                continue
            end = x + writer.width_of(before)
            total = writer.width_of(label + joint, label=True) + writer.width_of(value)
            if end + total < right and writer.put(
                label,
                kind,
                value,
                (end, baseline),
                (end + writer.width_of(label + joint, label=True), baseline),
                joint=joint.rstrip(),
            ):
                writer.write(x, baseline, before.rstrip())
            continue
        start = x + writer.width_of(label + joint, label=True)
        if writer.put(label, kind, value, (x, baseline), (start, baseline), joint=joint.rstrip(), right=right):
            writer.lines.append(f"{label}{joint}{value}")


def _screen(writer: _Writer) -> None:
    """Write a window: a coloured bar, rows of settings or messages, values flush right or beside."""
    rng, cap = writer.rng, writer.cap
    bar = rng.choice([*COLOURS.values(), writer.sheet.ink])
    ink = writer.sheet.ink
    writer.sheet.draw.rectangle((0, 0, writer.width, cap * 2.6), fill=bar)
    writer.sheet.ink = (255, 255, 255) if sum(bar) < 420 else (0, 0, 0)
    writer.loose(cap, cap * 1.8, make_label(rng, writer.language), label=True)
    writer.sheet.ink = ink
    writer.top = cap * 4.8
    writer.pitch = cap * rng.uniform(2.4, 3.2)
    flush = rng.random() < 0.6
    for baseline in writer.rows():
        left, right = writer.margin, writer.width - writer.margin
        label, kind, value = writer.pair(right - left if flush else (right - left) * 0.8)
        start = right - writer.width_of(value) if flush else left + writer.width * 0.4
        if writer.put(label, kind, value, (left, baseline), (start, baseline), right=right + 1):
            y = baseline + writer.pitch * 0.4
            writer.sheet.rule((left, y), (right, y))
            writer.lines.append(f"{label} {value}")


def _ticks(writer: _Writer) -> None:
    """Write a form with boxes, some of them ticked, between fields; no two choices have one name."""
    writer.title()
    rng, cap = writer.rng, writer.cap
    names: set[str] = set()
    style = rng.choice(("cross", "fill", "tick"))
    for baseline in writer.rows():
        if rng.random() < 0.4:
            label, kind, value = writer.pair(writer.width - 2 * writer.margin)
            start = writer.margin + writer.width_of(label + ":", label=True) + cap
            right = writer.width - writer.margin
            writer.put(label, kind, value, (writer.margin, baseline), (start, baseline), joint=":", right=right)
            continue
        x = writer.margin
        for _ in range(rng.randint(1, 3)):
            name = writer.label() if rng.random() < 0.5 else in_case(rng, make_word(rng, writer.language), capital=0.7)
            side = cap * 1.15
            end = x + side + cap * 0.7 + writer.width_of(name)
            box = (x, baseline - cap * 1.35, end, baseline + cap * 0.45)
            if name.lower() in names or end > writer.width - writer.margin or not writer.is_free(box):
                break
            names.add(name.lower())
            ticked = rng.random() < 0.5
            square = (round(x), round(baseline - side), round(x + side), round(baseline))
            draw, ink = writer.sheet.draw, writer.sheet.ink
            draw.rectangle(square, outline=ink)
            if ticked and style == "fill":
                draw.rectangle((square[0] + 2, square[1] + 2, square[2] - 2, square[3] - 2), fill=ink)
            elif ticked and style == "cross":
                draw.line((square[0], square[1], square[2], square[3]), fill=ink, width=2)
                draw.line((square[0], square[3], square[2], square[1]), fill=ink, width=2)
            elif ticked:
                middle = (x + side * 0.4, baseline - side * 0.1)
                draw.line(
                    [(x + side * 0.1, baseline - side * 0.5), middle, (x + side * 1.1, baseline - side * 1.1)],
                    fill=ink,
                    width=2,
                )
            writer.write(x + side + cap * 0.7, baseline, name)
            writer.taken[-1] = box
            writer.things.append((f"Is {name} ticked?", "yes" if ticked else "no"))
            x = end + cap * 1.5


def _scattered(writer: _Writer) -> None:
    """Write fields anywhere, each with its value right of, under or above its label."""
    rng, cap = writer.rng, writer.cap
    for _ in range(40):
        label, kind, value = writer.pair(writer.width * 0.6)
        way = rng.choice(("right", "under", "above"))
        width = writer.width_of(label, label=True)
        x, y = rng.uniform(2, writer.width - width), rng.uniform(cap * 1.5, writer.height - cap)
        joint = rng.choice((":", ""))
        place = {
            "right": (x + width + cap * rng.uniform(0.8, 2), y),
            "under": (x + cap * rng.uniform(0, 1), y + cap * 2),
            "above": (x, y - cap * 2),
        }[way]
        writer.put(label, kind, value, (x, y), place, joint=joint)


LAYOUTS: dict[str, tuple[float, Callable[[_Writer], None]]] = {
    "inline": (5, _inline),
    "stacked": (5, _stacked),
    "receipt": (3, _receipt),
    "header_table": (3, _header_table),
    "bordered": (3, _bordered),
    "cards": (3, _cards),
    "letter": (3, _letter),
    "screen": (2, _screen),
    "ticks": (2, _ticks),
    "scattered": (2, _scattered),
}


def _stamp(writer: _Writer) -> None:
    """Print a coloured shape into a corner that has room for it, and ask about it."""
    rng = writer.rng
    side = writer.width * rng.uniform(0.09, 0.17)
    for name, (right, bottom) in rng.sample(list(CORNERS.items()), 4):
        x = rng.uniform(2, 8) if not right else writer.width - side - rng.uniform(3, 9)
        y = rng.uniform(2, 8) if not bottom else writer.height - side - rng.uniform(3, 9)
        box = (x, y, x + side, y + side)
        if not writer.is_free(box):
            continue
        colour, shape = rng.choice(list(COLOURS)), rng.choice(SHAPES)
        if sum(abs(a - b) for a, b in zip(COLOURS[colour], writer.sheet.paper, strict=True)) < 130:
            continue
        _draw_shape(writer.sheet, shape, COLOURS[colour], box)
        writer.taken.append(box)
        writer.things += [
            (rng.choice(("What colour is the stamp?", "Which colour does the stamp have?")), colour),
            (rng.choice(("What shape is the stamp?", "Which shape does the stamp have?")), shape),
            (rng.choice(("Where is the stamp?", "In which corner is the stamp?")), name),
        ]
        return


def _draw_shape(sheet: Sheet, shape: str, colour: tuple[int, int, int], box: Box) -> None:
    left, top, right, bottom = box
    x, y, radius = (left + right) / 2, (top + bottom) / 2, (right - left) / 2
    draw, thick = sheet.draw, max(2, round(radius * 0.3))
    if shape == "circle":
        draw.ellipse(box, fill=colour)
    elif shape == "ring":
        draw.ellipse(box, outline=colour, width=thick)
    elif shape == "square":
        draw.rectangle((left + 1, top + 1, right - 1, bottom - 1), fill=colour)
    elif shape == "cross":
        draw.rectangle((x - thick * 0.7, top, x + thick * 0.7, bottom), fill=colour)
        draw.rectangle((left, y - thick * 0.7, right, y + thick * 0.7), fill=colour)
    else:
        corners = {"triangle": 3, "diamond": 4, "star": 10}[shape]
        reach = [radius * (0.45 if shape == "star" and number % 2 else 1) for number in range(corners)]
        angles = [math.pi * (2 * number / corners - 0.5) for number in range(corners)]
        points = [(x + r * math.cos(a), y + r * math.sin(a)) for r, a in zip(reach, angles, strict=True)]
        draw.polygon(points, fill=colour)


def _worse_scan(image: Image.Image, rng: Random, cap: float) -> Image.Image:
    """Blur, grey, fade, speckle and compress more than the first edition did."""
    if rng.random() < 0.5:
        share = rng.uniform(0.62, 0.95)
        small = image.resize([max(8, round(side * share)) for side in image.size], Image.Resampling.BILINEAR)
        image = small.resize(image.size, Image.Resampling.BICUBIC)
    if rng.random() < 0.6:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.03, 0.09) * cap))
    pixels: np.ndarray = np.asarray(image, dtype=np.float32)
    drawn = np.random.default_rng(rng.getrandbits(32))
    if rng.random() < 0.6:
        pixels = np.repeat(pixels.mean(2, keepdims=True), 3, 2)
    if rng.random() < 0.5:  # faded, or too dark
        middle = rng.uniform(90, 190)
        pixels = middle + (pixels - middle) * rng.uniform(0.4, 0.85) + rng.uniform(-25, 35)
    if rng.random() < 0.7:
        pixels = pixels + drawn.normal(0, rng.uniform(4, 20), (*pixels.shape[:2], 1))
    if rng.random() < 0.3:  # specks
        mask = drawn.random(pixels.shape[:2]) < rng.uniform(0.001, 0.008)
        pixels = np.where(mask[..., None], rng.choice((20.0, 235.0)), pixels)
    if rng.random() < 0.2:  # a streak of the scanner
        column = rng.randrange(pixels.shape[1])
        pixels[:, column : column + rng.randint(1, 2)] *= rng.uniform(0.6, 0.9)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return _compressed(image, rng.randint(22, 70)) if rng.random() < 0.7 else image


def _compressed(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    buffer.seek(0)
    return Image.open(buffer).convert("RGB")


def _homography(source: Sequence[tuple[float, float]], target: Sequence[tuple[float, float]]) -> np.ndarray:
    """Return the 3 x 3 matrix that takes four points to four others."""
    rows, right = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        right += [u, v]
    solved = np.linalg.solve(np.array(rows, dtype=np.float64), np.array(right, dtype=np.float64))
    return np.append(solved, 1).reshape(3, 3)


def _moved(matrix: np.ndarray, x: float, y: float) -> tuple[float, float]:
    u, v, w = matrix @ (x, y, 1.0)
    return float(u / w), float(v / w)


def _photograph(page: PrintedPage, rng: Random, cap: float) -> None:
    """Lay the sheet on a table and photograph it: perspective, light, a shadow, noise. What is on it moves along."""
    image = page.image
    width, height = image.size
    inset = 0.055 * min(width, height)

    def near(x: float, y: float) -> tuple[float, float]:
        return x + (1 if x == 0 else -1) * rng.uniform(0, inset), y + (1 if y == 0 else -1) * rng.uniform(0, inset)

    corners = [(0.0, 0.0), (float(width), 0.0), (float(width), float(height)), (0.0, float(height))]
    matrix = _homography(corners, [near(*corner) for corner in corners])
    back = np.linalg.inv(matrix)
    back /= back[2, 2]
    table = np.full((height, width, 3), [rng.randint(30, 200) for _ in range(3)], dtype=np.float32)
    drawn = np.random.default_rng(rng.getrandbits(32))
    table += drawn.normal(0, 10, (height, 1 if rng.random() < 0.5 else width, 1))
    coefficients = back.reshape(-1)[:8].tolist()
    warped = image.transform(image.size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BICUBIC)
    mask = Image.new("L", image.size, 255).transform(
        image.size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR
    )
    share = np.asarray(mask, dtype=np.float32)[..., None] / 255
    pixels = np.asarray(warped, dtype=np.float32) * share + table * (1 - share)
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = rng.uniform(0, 2 * math.pi)
    slope = (xs / width - 0.5) * math.cos(angle) + (ys / height - 0.5) * math.sin(angle)
    light: Any = 1 + slope * rng.uniform(0, 0.5)
    if rng.random() < 0.6:  # the shadow of a hand or of the camera
        edge = (slope - rng.uniform(-0.4, 0.4)) * rng.uniform(4, 40)
        light *= 1 - rng.uniform(0.15, 0.45) / (1 + np.exp(-np.clip(edge, -30, 30)))
    tint = np.array([rng.uniform(0.88, 1.06), 1.0, rng.uniform(0.82, 1.08)], dtype=np.float32)
    pixels = pixels * light[..., None] * tint * rng.uniform(0.75, 1.05)
    if rng.random() < 0.7:
        pixels = pixels + drawn.normal(0, rng.uniform(2, 11), pixels.shape)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    if rng.random() < 0.6:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.02, 0.065) * cap))
    page.image = _compressed(image, rng.randint(50, 92)) if rng.random() < 0.8 else image
    page.glyphs = [Glyph(g.character, *reversed(_moved(matrix, g.x, g.y))) for g in page.glyphs]
    fields = []
    for each in page.fields:
        left, top, right, bottom = each.box
        points = [_moved(matrix, x, y) for x in (left, right) for y in (top, bottom)]
        us, vs = zip(*points, strict=True)
        scale = (max(vs) - min(vs)) / (bottom - top) if bottom > top else 1.0
        box = (min(us), min(vs), max(us), max(vs))
        fields.append(PrintedField(each.label, each.value, each.kind, box, each.cap_height * min(scale, 1.0)))
    page.fields = fields


def _turned(page: PrintedPage, before: list[Glyph]) -> None:
    """Move the boxes as `degrade` moved the glyphs: all by one small rotation about the middle of the page."""
    if not before or before[0] == page.glyphs[0]:
        return
    width, height = page.image.size
    a, b = before[0], max(before, key=lambda glyph: abs(glyph.x - before[0].x) + abs(glyph.y - before[0].y))
    c, d = page.glyphs[before.index(a)], page.glyphs[before.index(b)]
    angle = math.atan2(d.y - c.y, d.x - c.x) - math.atan2(b.y - a.y, b.x - a.x)
    cosine, sine = math.cos(angle), math.sin(angle)

    def turn(x: float, y: float) -> tuple[float, float]:
        x, y = x - width / 2, y - height / 2
        return width / 2 + x * cosine - y * sine, height / 2 + x * sine + y * cosine

    fields = []
    for each in page.fields:
        left, top, right, bottom = each.box
        us, vs = zip(*(turn(x, y) for x in (left, right) for y in (top, bottom)), strict=True)
        box = (min(us), min(vs), max(us), max(vs))
        fields.append(PrintedField(each.label, each.value, each.kind, box, each.cap_height))
    page.fields = fields


def make_printed_page(
    seed: int, faces: Sequence[Face], *, layout: str | None = None, scan: str | None = None, canvas: int = 256
) -> PrintedPage:
    """Make a page.

    Args:
        seed: Of everything on it.
        faces: Fonts, all with Latin-1 letters.
        layout: A name in `LAYOUTS`; drawn by default.
        scan: "clean", "scan", "worse" or "photo"; drawn by default.
        canvas: Side of the high-res canvas in pixels.

    Returns:
        The page; the same for the same arguments.
    """
    rng = Random(f"printed {seed}")
    ratio = math.exp(rng.uniform(-1, 1) * math.log(1.3))
    enlarged = rng.uniform(1, 1.45)
    long_edge = canvas * enlarged
    height, width = round(long_edge * min(1, ratio)), round(long_edge * min(1, 1 / ratio))
    low, high = CAP_HEIGHTS
    cap = max(low * (high / low) ** (rng.random() ** 1.15) * enlarged, 7)
    face = rng.choice(faces)
    family = [other for other in faces if other.family == face.family]
    sheet = blank_sheet(rng, height, width)
    if rng.random() < 0.25:
        sheet.squeeze = rng.uniform(0.65, 1)
    if rng.random() < 0.15:
        sheet.stroke = rng.uniform(0.01, 0.04) * cap
    label_face = rng.choice(family) if rng.random() < 0.45 else rng.choice(faces) if rng.random() < 0.1 else face
    names, weights = list(LAYOUTS), [weight for weight, _ in LAYOUTS.values()]
    drawn = rng.choices(names, weights)[0]
    scan_drawn = rng.choices(("clean", "scan", "worse", "photo"), (27, 30, 24, 19))[0]
    layout, scan = layout or drawn, scan or scan_drawn
    writer = _Writer(sheet, rng, face, label_face, cap, random_language(rng))
    stamped = rng.random() < 0.3
    if stamped and layout != "screen":
        _stamp(writer)
    LAYOUTS[layout][1](writer)
    if stamped and layout == "screen":
        _stamp(writer)
    page = PrintedPage(
        sheet.image, writer.fields, sheet.glyphs, writer.lines, writer.things, layout, face.family, scan, writer.texts
    )
    if scan in ("scan", "worse"):
        before = list(sheet.glyphs)
        page.image = degrade(sheet, rng, cap=cap)
        page.glyphs = sheet.glyphs
        _turned(page, before)
    if scan == "worse":
        page.image = _worse_scan(page.image, rng, cap)
    elif scan == "photo":
        _photograph(page, rng, cap)
    return page


def first_edition_page(
    seed: int, image_processor: FilaImageProcessor | FilaImageProcessorPil, faces: Sequence[Face]
) -> PrintedPage:
    """Return a page of the first edition's kind `varied`."""
    page = make_page(seed, "varied", image_processor, faces=faces)
    width, height = page.image.size
    fields = [
        PrintedField(each.label, each.value, "first edition", (0.0, 0.0, width, height), each.cap_height)
        for each in page.fields
    ]
    texts = [text for each in page.fields for text in (each.label, each.value)]
    return PrintedPage(page.image, fields, list(page.glyphs), [], [], page.layout, page.family, "first edition", texts)


def absent_label(rng: Random, page: PrintedPage) -> str:
    """Return a label that is not on a page; one of three is like one that is."""
    written = " ".join(page.texts).lower()
    while True:
        label = make_label(rng)
        if page.fields and rng.random() < 0.35:
            near = rng.choice(page.fields).label.split(" | ")[0]
            label = rng.choice((f"{near} {make_word(rng, 'en')}", f"{invented_word(rng).capitalize()} {near}"))
        if label.lower() not in written:
            return label


def _ask(rng: Random, page: PrintedPage, each: PrintedField) -> str:
    if " | " in each.label:
        column, row = each.label.split(" | ")
        return rng.choice(CELLS).format(column=column, row=row)
    label = each.label.lower() if rng.random() < 0.15 else each.label
    return rng.choice(QUESTIONS).format(label=label)


def _line_questions(rng: Random, page: PrintedPage) -> list[tuple[str, str]]:
    asked = []
    for line in page.lines:
        start = line.split()[0]
        alone = sum(text.split()[0].lower() == start.lower() for text in page.texts + page.lines if text.split())
        own = (
            page.lines.count(line) == 1 and sum(other.split()[0].lower() == start.lower() for other in page.lines) == 1
        )
        if own and alone <= 2 and len(line) <= LONGEST and len(line) > len(start) and start.strip(string.punctuation):
            asked.append((rng.choice(LINES).format(start=start), line))
    return asked


def make_printed_sample(
    seed: int,
    image_processor: FilaImageProcessor | FilaImageProcessorPil,
    faces: Sequence[Face],
    *,
    num_questions: int = 8,
    first_edition: float | None = None,
) -> dict[str, Any]:
    """Make a page and a conversation about it: one line of `pages.jsonl`.

    Args:
        seed: Of the page and of the questions.
        image_processor: Of the model that is to read it.
        faces: Fonts.
        num_questions: At most.
        first_edition: Share of pages of the first edition.

    Returns:
        `images`, `messages`, for each question its entry in `fields`, and the page's `glyphs`.
    """
    rng = Random(f"questions {seed}")
    share = SHARE_OF_FIRST_EDITION if first_edition is None else first_edition
    old = rng.random() < share
    while not (
        page := first_edition_page(seed, image_processor, faces) if old else make_printed_page(seed, faces)
    ).fields:
        seed += 10**9
    asked: list[tuple[str, str, str, float | None]] = []
    lines, things = _line_questions(rng, page), rng.sample(page.things, min(3, len(page.things)))
    fields = rng.sample(page.fields, min(num_questions, len(page.fields)))
    while len(asked) < num_questions:
        draw = rng.random()
        if draw < SHARE_ABSENT:
            label = absent_label(rng, page)
            asked.append((rng.choice(QUESTIONS).format(label=label), ABSENT, "absent", None))
        elif draw < SHARE_ABSENT + SHARE_LINES and lines:
            asked.append((*lines.pop(rng.randrange(len(lines))), "line", None))
        elif draw < SHARE_ABSENT + SHARE_LINES + 0.3 and things:
            asked.append((*things.pop(), "thing", None))
        elif not fields:
            break
        else:
            each = fields.pop()
            question = f"What is the {each.label}?" if old and rng.random() < 0.7 else _ask(rng, page, each)
            asked.append((question, each.value, each.kind, each.cap_height))
    if not asked:
        each = page.fields[0]
        asked.append((_ask(rng, page, each), each.value, each.kind, each.cap_height))
    width, height = page.image.size
    plan = image_processor.plan(height, width)
    scale = plan.content_box.size.height / height
    enlarged = image_processor.high_res_size["height"] / image_processor.size["height"]
    typical = sorted(each.cap_height for each in page.fields)[len(page.fields) // 2]
    entries, messages = [], []
    for number, (question, answer, kind, cap) in enumerate(asked):
        cap = cap or typical
        entries.append(
            {
                "question": question,
                "answer": answer,
                "kind": kind,
                "cap_height": cap,
                "tile_cap_height": cap * scale,
                "high_res_cap_height": cap * scale * enlarged,
                "layout": page.layout,
                "family": page.family,
                "scan": page.scan,
            }
        )
        image = [] if number else [{"type": "image"}]
        messages.append({"role": "user", "content": [*image, {"type": "text", "text": question}]})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return {"images": [page.image], "messages": messages, "fields": entries, "glyphs": page.glyphs}
