# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Pages with small print, and questions about them: forms, receipts, tables, notices, tickets.

A page is a pure function of its seed. Values are random strings, so nothing but reading gives the answer. The test
split has its own fonts, words and layouts; `varied` is training pages with any letters and a layout that puts fields
anywhere. For each field the height of a capital letter is known in pixels of the
page, of the tile canvas (what the low-res tower sees) and of the high-res canvas.
"""

import math
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from PIL import Image

from fila.processing.image_processing_fila import FilaImageProcessor, FilaImageProcessorPil

from .page_fonts import DEFAULT_FACES, Face
from .page_sheet import Glyph, Sheet, blank_sheet, degrade
from .page_text import make_label, make_value

# A capital letter's height in pixels of the high-res canvas: from barely readable to a headline.
CAP_HEIGHTS = (8.0, 20.0)
QUESTIONS = ("What is the {label}?",)
READ = "Read the first {count} fields."


@dataclass(frozen=True)
class Field:
    """A label and its value on a page.

    Attributes:
        label: As printed.
        value: As printed.
        cap_height: Height of a capital letter in pixels of the page.
        tile_cap_height: The same on the tile canvas.
        high_res_cap_height: The same on the high-res canvas.
    """

    label: str
    value: str
    cap_height: float
    tile_cap_height: float
    high_res_cap_height: float


@dataclass(frozen=True)
class Page:
    """A page, what is on it, and where.

    Attributes:
        image: RGB.
        fields: In reading order; labels differ.
        glyphs: Every character of the page, centres in pixels of the page.
        layout: Name of the layout.
        family: Name of the font family of its text.
    """

    image: Image.Image
    fields: tuple[Field, ...]
    glyphs: tuple[Glyph, ...]
    layout: str
    family: str


@dataclass
class _Writer:
    """What a layout writes with: a sheet, a font, a place for fields."""

    sheet: Sheet
    rng: Random
    split: str
    face: Face
    bold: Face
    cap: float
    pairs: list[tuple[str, str]]

    def __post_init__(self) -> None:
        self.font = self.face.at_cap_height(self.cap)
        self.label_font = self.bold.at_cap_height(self.cap)
        self.width, self.height = self.sheet.image.size
        self.margin = self.width * self.rng.uniform(0.03, 0.08)
        self.pitch = self.cap * self.rng.uniform(1.9, 2.8)
        self.top = self.margin + self.cap

    def pair(self) -> tuple[str, str]:
        """Make a label that the page does not have yet, and a value."""
        taken = {label.lower() for label, _ in self.pairs}
        while (label := make_label(self.rng, self.split)).lower() in taken:
            pass
        return label, make_value(self.rng, self.split)

    def joint(self, *choices: str) -> str:
        """Return the text between label and value: one of the choices, or on varied pages any marks and spaces."""
        if self.split != "varied":
            return self.rng.choice(choices) if choices else ""
        marks = "".join(self.rng.choice(string.punctuation) for _ in range(self.rng.randint(0, 2)))
        return " " * self.rng.randint(0, 2) + marks + " " * self.rng.randint(1, 3)

    def keep(self, label: str, value: str) -> None:
        """Record a field that was written."""
        self.pairs.append((label, value))

    def write(self, x: float, baseline: float, text: str, *, label: bool = False) -> float:
        """Write in the page's font and return where the text ends."""
        return self.sheet.write(x, baseline, text, self.label_font if label else self.font, cap=self.cap)

    def width_of(self, text: str, *, label: bool = False) -> float:
        """Return the width of a text in pixels."""
        return self.sheet.width_of(text, self.label_font if label else self.font)

    def title(self) -> None:
        """Write a larger heading, most of the time."""
        if self.rng.random() < 0.7:
            cap = self.cap * self.rng.uniform(1.3, 2.0)
            font = self.bold.at_cap_height(cap)
            text = make_label(self.rng, self.split)
            if self.sheet.width_of(text, font) < self.width - 2 * self.margin:
                self.sheet.write(self.margin, self.top + cap - self.cap, text, font, cap=cap)
                self.top += cap - self.cap + self.pitch * 1.4

    def rows(self) -> Iterator[float]:
        """Yield baselines from the top of the page to its bottom."""
        baseline = self.top
        while baseline < self.height - self.margin:
            yield baseline
            baseline += self.pitch


def _columns(writer: _Writer, most: int, *, narrowest: float = 19) -> list[tuple[float, float]]:
    """Return left and right edges of up to this many columns; `narrowest` is in heights of a capital letter."""
    gap = writer.cap * 2
    usable = writer.width - 2 * writer.margin
    count = max(1, min(most, int((usable + gap) / (narrowest * writer.cap + gap))))
    each = (usable - (count - 1) * gap) / count
    return [
        (writer.margin + index * (each + gap), writer.margin + index * (each + gap) + each) for index in range(count)
    ]


def _form(writer: _Writer) -> None:
    """Write `label: value` lines in one or two columns; values start anywhere or on one edge."""
    writer.title()
    columns = _columns(writer, writer.rng.choice((1, 2, 2)))
    colon = writer.joint(":", ":", "", " -")
    indent = writer.rng.choice((None, writer.cap * writer.rng.uniform(11, 15)))
    for baseline in writer.rows():
        for left, right in columns:
            label, value = writer.pair()
            text = label + colon
            end = left + writer.width_of(text, label=True) + writer.cap * 0.9
            start = end if indent is None else max(end, left + indent)
            if start + writer.width_of(value) <= right:
                writer.write(left, baseline, text, label=True)
                writer.write(start, baseline, value)
                if writer.rng.random() < 0.1:
                    writer.sheet.rule((start, baseline + writer.cap * 0.4), (right, baseline + writer.cap * 0.4))
                writer.keep(label, value)


def _receipt(writer: _Writer) -> None:
    """Write a narrow column: labels on the left, values flush right."""
    writer.title()
    columns = _columns(writer, writer.rng.choice((1, 2)))
    dots = writer.rng.random() < 0.4
    joint = writer.joint().rstrip()
    for baseline in writer.rows():
        if writer.rng.random() < 0.08:
            y = baseline - writer.cap
            writer.sheet.rule((writer.margin, y), (writer.width - writer.margin, y))
            continue
        for left, right in columns:
            right = min(right, left + writer.cap * 30)
            label, value = writer.pair()
            end, start = left + writer.width_of(label + joint, label=True), right - writer.width_of(value)
            if end + writer.cap <= start:
                writer.write(left, baseline, label + joint, label=True)
                if dots and writer.width_of(".") > 1:
                    count = int((start - end - writer.cap) / writer.width_of(".") / 2)
                    ink, font = writer.sheet.ink, writer.font
                    writer.sheet.draw.text((end + writer.cap / 2, baseline), " ." * count, ink, font, anchor="ls")
                writer.write(start, baseline, value)
                writer.keep(label, value)


def _table(writer: _Writer) -> None:
    """Write two or four ruled columns: label, value, label, value."""
    writer.title()
    columns = _columns(writer, writer.rng.choice((1, 2, 2)))
    share = writer.rng.uniform(0.48, 0.58)
    grid = writer.rng.random() < 0.6
    for baseline in writer.rows():
        for left, right in columns:
            label, value = writer.pair()
            split = left + (right - left) * share
            pad = writer.cap * 0.5
            if grid:
                writer.sheet.rule((left, baseline + writer.pitch * 0.33), (right, baseline + writer.pitch * 0.33))
            end = left + 2 * pad + writer.width_of(label, label=True)
            if end > split or split + pad + writer.width_of(value) > right:
                continue
            if grid:
                for x in (left, split, right):
                    writer.sheet.rule((x, baseline - writer.pitch * 0.67), (x, baseline + writer.pitch * 0.33))
            writer.write(left + pad, baseline, label, label=True)
            writer.write(split + pad, baseline, value)
            writer.keep(label, value)


def _notice(writer: _Writer) -> None:
    """Write running text: `label value;` one after the other."""
    writer.title()
    joint = writer.joint(": ", " is ", " = ")
    stop = writer.rng.choice((";", ","))
    for baseline in writer.rows():
        x = writer.margin
        while True:
            label, value = writer.pair()
            width = writer.width_of(label + joint, label=True) + writer.width_of(value + stop)
            if x + width > writer.width - writer.margin:
                break
            x = writer.write(x, baseline, label + joint, label=True)
            x = writer.write(x, baseline, value + stop) + writer.width_of(" ") + writer.cap * 0.5
            writer.keep(label, value)


def _ticket(writer: _Writer) -> None:
    """Write a grid of cells, the label above its value."""
    writer.title()
    columns = _columns(writer, writer.rng.choice((2, 3, 3)), narrowest=9)
    baselines = list(writer.rows())
    for upper, lower in zip(baselines[::3], baselines[1::3], strict=False):
        lower = min(lower, upper + writer.cap * 2.0)
        for left, right in columns:
            label, value = writer.pair()
            if left + max(writer.width_of(label, label=True), writer.width_of(value)) <= right:
                writer.write(left, upper, label, label=True)
                writer.write(left, lower, value)
                writer.keep(label, value)


def _scattered(writer: _Writer) -> None:
    """Varied only: fields on the left, on the right or anywhere in up to three columns, values beside or below."""
    columns = _columns(writer, writer.rng.choice((1, 2, 3)), narrowest=12)
    place = writer.rng.choice((0.0, 1.0, None))
    below = writer.rng.random() < 0.3
    gap = writer.cap * writer.rng.uniform(0.4, 5)
    joint = writer.joint().rstrip()
    rows = writer.rows()
    for baseline in rows:
        lower = next(rows, baseline) if below else baseline
        if below and lower == baseline:
            return
        for left, right in columns:
            label, value = writer.pair()
            indent = 0.0 if below else writer.width_of(label + joint, label=True) + gap
            width = max(writer.width_of(label + joint, label=True), indent + writer.width_of(value))
            if width <= right - left:
                start = left + (right - left - width) * (writer.rng.random() if place is None else place)
                writer.write(start, baseline, label + joint, label=True)
                writer.write(start + indent, lower, value)
                writer.keep(label, value)


def _statement(writer: _Writer) -> None:
    """Test only: shaded rows, values flush right behind a bar, two columns."""
    writer.title()
    columns = _columns(writer, 2)
    for number, baseline in enumerate(writer.rows()):
        if number % 2:
            edge, top = writer.margin / 2, baseline - writer.pitch * 0.7
            writer.sheet.shade((edge, top, writer.width - edge, top + writer.pitch))
        for left, right in columns:
            label, value = writer.pair()
            start = right - writer.width_of(value)
            if left + writer.width_of(label + " |", label=True) + writer.cap <= start:
                writer.write(left, baseline, label + " |", label=True)
                writer.write(start, baseline, value)
                writer.keep(label, value)


def _badge(writer: _Writer) -> None:
    """Test only: centred lines `label / value` in one or two columns, with a frame."""
    columns = _columns(writer, writer.rng.choice((1, 2)))
    joint = writer.rng.choice((" / ", "  ", " > "))
    for left, right in columns:
        edge, pad = writer.margin / 2, writer.cap
        writer.sheet.draw.rectangle((left - pad, edge, right + pad, writer.height - edge), outline=writer.sheet.ink)
    for baseline in writer.rows():
        for left, right in columns:
            label, value = writer.pair()
            width = writer.width_of(label + joint, label=True) + writer.width_of(value)
            if width <= right - left:
                x = writer.write((left + right - width) / 2, baseline, label + joint, label=True)
                writer.write(x, baseline, value)
                writer.keep(label, value)


def dense_text(writer: _Writer) -> None:
    """Write lines of words and values without fields: the most characters per pixel, to warm towers up."""
    writer.pitch = writer.cap * writer.rng.uniform(1.5, 2.0)
    for baseline in writer.rows():
        x = writer.margin
        while True:
            text = (make_label if writer.rng.random() < 0.4 else make_value)(writer.rng, writer.split)
            text += writer.joint().rstrip()
            if x + writer.width_of(text) > writer.width - writer.margin:
                break
            x = writer.write(x, baseline, text) + writer.width_of(" ") * writer.rng.choice((1, 1, 2))


Layout = Callable[[_Writer], None]
LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "train": (_form, _receipt, _table, _notice, _ticket),
    "test": (_statement, _badge),
    "varied": (_form, _receipt, _table, _notice, _ticket, _scattered, _scattered, _scattered),
}


def make_page(
    seed: int,
    split: str,
    image_processor: FilaImageProcessor | FilaImageProcessorPil,
    *,
    faces: Sequence[Face] = DEFAULT_FACES,
    cap_heights: tuple[float, float] = CAP_HEIGHTS,
    aspect: float = 1.3,
    clean: bool = False,
    layout: Layout | None = None,
) -> Page:
    """Make a page.

    Args:
        seed: Of everything on it.
        split: "train", "test" or "varied": words and layouts.
        image_processor: A `FilaImageProcessor`: its canvas decides how small the text will be seen.
        faces: Fonts of the split.
        cap_heights: Smallest and largest height of a capital letter, in pixels of the high-res canvas.
        aspect: Largest ratio of the page's sides.
        clean: Leave out rotation, blur, noise and compression.
        layout: Which one; one of the split's by default.

    Returns:
        The page; the same for the same arguments.
    """
    rng = Random(f"{split} {seed}")
    ratio = math.exp(rng.uniform(-1, 1) * math.log(aspect))
    size, high_res_size = image_processor.size, image_processor.high_res_size
    enlarged = high_res_size["height"] / size["height"] if high_res_size else 32 / 14
    # drawn as large as the high-res canvas shows it, or up to half as large again
    long_edge = rng.uniform(1, 1.5) * 2 * size["height"] * enlarged
    height, width = round(long_edge * min(1, ratio)), round(long_edge * min(1, 1 / ratio))
    plan = image_processor.plan(height, width)
    tile_scale = plan.content_box.size.height / height
    high_res_scale = tile_scale * enlarged
    low, high = cap_heights
    cap = low * (high / low) ** rng.random() / high_res_scale

    face = rng.choice(faces)
    bolder = [other for other in faces if other.family == face.family]
    sheet = blank_sheet(rng, height, width)
    if split == "varied" and rng.random() < 0.5:  # few families are narrow, and those are the hard ones
        sheet.squeeze = rng.uniform(0.6, 1)
    if split == "varied" and rng.random() < 0.3:  # and few are as heavy as a text face's display cut
        sheet.stroke = rng.uniform(0.01, 0.05) * cap
    layout = layout or rng.choice(LAYOUTS[split])
    writer = _Writer(sheet, rng, split, face, rng.choice(bolder) if rng.random() < 0.4 else face, cap, [])
    layout(writer)
    image = sheet.image if clean else degrade(sheet, rng, cap=cap)
    _, top, _, bottom = writer.font.getbbox("H", anchor="ls")
    drawn = bottom - top
    fields = tuple(
        Field(label, value, drawn, drawn * tile_scale, drawn * high_res_scale) for label, value in writer.pairs
    )
    return Page(image, fields, tuple(sheet.glyphs), layout.__name__.strip("_"), face.family)


def make_sample(
    seed: int,
    split: str,
    image_processor: FilaImageProcessor | FilaImageProcessorPil,
    *,
    num_questions: int = 6,
    read: int = 0,
    **options: Any,
) -> dict[str, Any]:
    """Make a page and a conversation about it: one sample of a training set.

    Args:
        seed: Of the page and of the questions.
        split: "train", "test" or "varied".
        image_processor: See `make_page`.
        num_questions: At most; all share the page's one pass through the towers.
        read: Also ask, first, to read so many fields from the top; 0 does not.
        options: Of `make_page`.

    Returns:
        `images`, `messages`, for each question its entry in `fields`, and the page's `glyphs`.
    """
    while not (page := make_page(seed, split, image_processor, **options)).fields:
        seed += 10**9
    rng = Random(f"questions {split} {seed}")
    turns = []
    if read:
        lines = [f"{field.label}: {field.value}" for field in page.fields[:read]]
        turns.append((READ.format(count=read), "\n".join(lines)))
    fields = []
    for field in rng.sample(page.fields, min(num_questions, len(page.fields))):
        question = rng.choice(QUESTIONS).format(label=field.label)
        turns.append((question, field.value))
        fields.append(
            {
                "question": question,
                "answer": field.value,
                "cap_height": field.cap_height,
                "tile_cap_height": field.tile_cap_height,
                "high_res_cap_height": field.high_res_cap_height,
                "layout": page.layout,
                "family": page.family,
            }
        )
    messages: list[dict[str, Any]] = []
    for question, answer in turns:
        image = [] if messages else [{"type": "image"}]
        messages.append({"role": "user", "content": [*image, {"type": "text", "text": question}]})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return {"images": [page.image], "messages": messages, "fields": fields, "glyphs": page.glyphs}
