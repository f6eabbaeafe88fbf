# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Crops of real pages: PDFs with a text layer, drawn at sizes at which their print is small.

The text layer says which word stands where, so questions have exact answers. Any PDF will do; Debian's
`debian-reference-en` and `installation-guide-amd64` are free books of a few hundred pages.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import median
from typing import TYPE_CHECKING, Any

from PIL import Image

from fila.processing.image_processing_fila import FilaImageProcessor, FilaImageProcessorPil

from .page_sheet import Glyph

if TYPE_CHECKING:
    from pypdfium2 import PdfPage


QUESTION = "Which word comes after {word!r}?"
POINTS_PER_INCH = 72


@dataclass(frozen=True)
class Word:
    """A word of a page.

    Attributes:
        text: As the text layer has it.
        box: (left, top, right, bottom) in points from the page's top left corner.
        glyphs: Its characters, centres in points.
        line: Number of its line.
    """

    text: str
    box: tuple[float, float, float, float]
    glyphs: tuple[Glyph, ...]
    line: int


def read_words(page: "PdfPage") -> tuple[list[Word], float]:
    """Read the text layer of a page.

    Args:
        page: A page of a `pypdfium2.PdfDocument`.

    Returns:
        Its words in reading order, and the usual height of a capital letter in points (0 without capitals).
    """
    height = page.get_height()
    layer = page.get_textpage()
    words: list[Word] = []
    capitals: list[float] = []
    letters: list[tuple[str, tuple[float, float, float, float]]] = []
    line = 0

    def finish() -> None:
        if letters:
            boxes = [box for _, box in letters]
            lefts, tops, rights, bottoms = zip(*boxes, strict=True)
            whole = (min(lefts), min(tops), max(rights), max(bottoms))
            glyphs = tuple(Glyph(c, (b[1] + b[3]) / 2, (b[0] + b[2]) / 2) for c, b in letters)
            words.append(Word("".join(character for character, _ in letters), whole, glyphs, line))
            letters.clear()

    for index, character in enumerate(layer.get_text_range(0, layer.count_chars())[: layer.count_chars()]):
        if character.isspace():
            finish()
            line += character == "\n"  # lines end with \r\n
            continue
        left, bottom, right, top = layer.get_charbox(index)
        letters.append((character, (left, height - top, right, height - bottom)))
        if character in "ABDEFHIKLMNPRTXZ":
            capitals.append(top - bottom)
    finish()
    return words, median(capitals) if capitals else 0.0


def make_crop(
    paths: Sequence[str | Path],
    seed: int,
    image_processor: FilaImageProcessor | FilaImageProcessorPil,
    *,
    cap_heights: tuple[float, float] = (8.0, 20.0),
    num_questions: int = 6,
) -> dict[str, Any]:
    """Cut a piece out of a random page and ask which word follows which.

    Args:
        paths: PDF files.
        seed: Of everything.
        image_processor: A `FilaImageProcessor`: its high-res canvas decides how large the piece is.
        cap_heights: Smallest and largest usual height of a capital letter, in pixels of the high-res canvas.
        num_questions: At most; the asked words stand once in the piece, and their successors on the same line.

    Returns:
        A sample as `make_sample` gives it.

    Raises:
        ValueError: If a file is no PDF, or a hundred pages had nothing to ask.
    """
    import pypdfium2

    rng = Random(f"pdf {seed}")
    size, high_res_size = image_processor.size, image_processor.high_res_size
    enlarged = high_res_size["height"] / size["height"] if high_res_size else 32 / 14
    side = 2 * size["height"] * enlarged
    for _ in range(100):
        path = rng.choice(list(paths))
        try:
            document = pypdfium2.PdfDocument(path)
        except pypdfium2.PdfiumError as error:
            raise ValueError(f"{path} must be a PDF that opens without a password: {error}.") from error
        with document:
            page = document[rng.randrange(len(document))]
            words, cap = read_words(page)
            if not cap:
                continue
            low, high = cap_heights
            scale = low * (high / low) ** rng.random() / cap
            width, height = page.get_size()
            across = min(side / scale, width, height)
            left, top = rng.uniform(0, width - across), rng.uniform(0, height - across)
            box = (left, top, left + across, top + across)
            inside = [word for word in words if _inside(word.box, box)]
            pairs = _pairs(inside)
            if not pairs:
                continue
            crop = (left, height - top - across, width - left - across, top)
            image: Image.Image = page.render(scale=scale, crop=crop).to_pil().convert("RGB")
        break
    else:
        raise ValueError(f"None of a hundred random pages of {[str(path) for path in paths]} has words to ask about.")

    def pixels(glyph: Glyph) -> Glyph:
        return Glyph(glyph.character, (glyph.y - top) * image.height / across, (glyph.x - left) * image.width / across)

    plan = image_processor.plan(image.height, image.width)
    cap_height = cap * image.height / across
    on_tiles = cap_height * plan.content_box.size.height / image.height
    asked = rng.sample(pairs, min(num_questions, len(pairs)))
    messages: list[dict[str, Any]] = []
    fields = []
    for word, answer in asked:
        question = QUESTION.format(word=word)
        picture = [] if messages else [{"type": "image"}]
        messages.append({"role": "user", "content": [*picture, {"type": "text", "text": question}]})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        fields.append(
            {
                "question": question,
                "answer": answer,
                "cap_height": cap_height,
                "tile_cap_height": on_tiles,
                "high_res_cap_height": on_tiles * enlarged,
                "layout": "pdf",
                "family": Path(path).stem,
            }
        )
    glyphs = [
        pixels(glyph) for word in words for glyph in word.glyphs if left < glyph.x < box[2] and top < glyph.y < box[3]
    ]
    return {"images": [image], "messages": messages, "fields": fields, "glyphs": glyphs}


def _inside(inner: tuple[float, ...], outer: tuple[float, ...]) -> bool:
    return inner[0] >= outer[0] and inner[1] >= outer[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


def _pairs(words: Sequence[Word]) -> list[tuple[str, str]]:
    """Return the words that occur once, each with the next word on its line."""
    texts = [word.text for word in words]
    return [
        (word.text, following.text)
        for word, following in pairwise(words)
        if word.line == following.line and texts.count(word.text) == 1 and _is_plain(word.text + following.text)
    ]


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()
