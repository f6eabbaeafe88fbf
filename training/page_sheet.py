# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""A sheet of paper that remembers where every character was written, and what a camera or scanner does to it."""

import functools
import io
import math
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Colour = tuple[int, int, int]


class Glyph(NamedTuple):
    """One character that was written, its centre in pixels of the page."""

    character: str
    y: float
    x: float


@functools.lru_cache(maxsize=8192)
def _advance(font: ImageFont.FreeTypeFont, character: str) -> float:
    return font.getlength(character)


@dataclass
class Sheet:
    """A page that is being written.

    Attributes:
        image: The page.
        ink: Colour of the text.
        paper: Colour of the page.
        glyphs: Every character but spaces.
        squeeze: Width of what is written, as a share of the font's own.
        stroke: How many pixels every stroke is wider on each side than the font's own.
    """

    image: Image.Image
    ink: Colour
    paper: Colour
    glyphs: list[Glyph] = field(default_factory=list)
    squeeze: float = 1.0
    stroke: float = 0.0

    def __post_init__(self) -> None:
        self.draw = ImageDraw.Draw(self.image)

    def write(self, x: float, baseline: float, text: str, font: ImageFont.FreeTypeFont, *, cap: float) -> float:
        """Write one line of text and return the x where it ends; `cap` is the font's cap height in pixels."""
        x, baseline = round(x), round(baseline)
        if self.squeeze == 1:
            self.draw.text((x, baseline), text, fill=self.ink, font=font, anchor="ls", stroke_width=self.stroke)
        else:
            self._paste_squeezed(x, baseline, text, font)
        ends = np.cumsum([_advance(font, character) for character in text])
        width = self.width_of(text, font)
        ends *= width / max(ends[-1], 1e-6)  # kerning, spread evenly
        start = 0.0
        for character, end in zip(text, ends.tolist(), strict=True):
            if character != " ":
                self.glyphs.append(Glyph(character, baseline - cap / 2, x + (start + end) / 2))
            start = end
        return x + width

    def width_of(self, text: str, font: ImageFont.FreeTypeFont) -> float:
        """Return the width of a line of text in pixels."""
        return font.getlength(text) * self.squeeze

    def _paste_squeezed(self, x: int, baseline: int, text: str, font: ImageFont.FreeTypeFont) -> None:
        box = font.getbbox(text, anchor="ls", stroke_width=self.stroke)
        left, top, right, bottom = (round(side) for side in box)
        if right <= left or bottom <= top:
            return
        mask = Image.new("L", (right - left, bottom - top))
        drawn: dict[str, Any] = {"fill": 255, "font": font, "anchor": "ls", "stroke_width": self.stroke}
        ImageDraw.Draw(mask).text((-left, -top), text, **drawn)
        mask = mask.resize((max(1, round(mask.width * self.squeeze)), mask.height), Image.Resampling.LANCZOS)
        self.image.paste(self.ink, (x + round(left * self.squeeze), baseline + top), mask)

    def rule(self, start: tuple[float, float], end: tuple[float, float], *, width: int = 1) -> None:
        """Draw a line in a colour between ink and paper; points are (x, y)."""
        between = tuple((a + 2 * b) // 3 for a, b in zip(self.ink, self.paper, strict=True))
        self.draw.line([start, end], fill=between, width=width)

    def shade(self, box: tuple[float, float, float, float]) -> None:
        """Tint a rectangle (left, top, right, bottom) a little."""
        tint = tuple((a + 9 * b) // 10 for a, b in zip(self.ink, self.paper, strict=True))
        self.draw.rectangle(box, fill=tint)


def blank_sheet(rng: Random, height: int, width: int) -> Sheet:
    """Return a clean sheet: mostly dark on light, sometimes light on dark, coloured or with a gradient."""
    paper = [rng.randint(215, 255)] * 3
    ink = [rng.randint(0, 70)] * 3
    if rng.random() < 0.4:
        paper = [min(255, max(190, value + rng.randint(-25, 15))) for value in paper]
        ink = [min(110, max(0, value + rng.randint(-40, 60))) for value in ink]
    if rng.random() < 0.1:
        paper, ink = [255 - value for value in paper], [255 - value for value in ink]
    image = Image.new("RGB", (width, height), (paper[0], paper[1], paper[2]))
    if rng.random() < 0.3:
        gradient = Image.linear_gradient("L").rotate(90 * rng.randrange(4)).resize((width, height))
        shaded = image.point(lambda value: int(value * 0.88))
        image = Image.composite(image, shaded, gradient)
    return Sheet(image, (ink[0], ink[1], ink[2]), (paper[0], paper[1], paper[2]))


def degrade(sheet: Sheet, rng: Random, *, cap: float) -> Image.Image:
    """Rotate, blur, add noise and compress; mild enough that a person still reads text of `cap` pixels.

    The glyphs of the sheet move with the rotation.
    """
    image = sheet.image
    if rng.random() < 0.4:
        angle = rng.uniform(-1.5, 1.5)
        image = image.rotate(angle, resample=Image.Resampling.BICUBIC, fillcolor=sheet.paper)
        cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        middle_x, middle_y = image.width / 2, image.height / 2
        sheet.glyphs = [
            Glyph(
                glyph.character,
                middle_y - (glyph.x - middle_x) * sine + (glyph.y - middle_y) * cosine,
                middle_x + (glyph.x - middle_x) * cosine + (glyph.y - middle_y) * sine,
            )
            for glyph in sheet.glyphs
        ]
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.02, 0.06) * cap))
    if rng.random() < 0.3:
        noise = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(1, 6), (image.height, image.width, 1))
        image = Image.fromarray(np.clip(np.asarray(image, dtype=np.float32) + noise, 0, 255).astype(np.uint8))
    if rng.random() < 0.5:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=rng.randint(55, 95))
        buffer.seek(0)
        image = Image.open(buffer).convert("RGB")
    return image
