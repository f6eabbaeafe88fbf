# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Draw `fila/assets/page.png`, the high-resolution page that ships with the package.

The page is an invented invoice of an invented company: a heading that can be read from afar, fields, a table whose
sums are right, and print so small that it vanishes when the page is shrunk to one 336-pixel view. The dial stands in
the middle, so the border between two tiles cuts it on every 2 x 2 canvas.

The drawing and its text are this project's own (Apache-2.0). The lettering is IBM Plex (Copyright 2017 IBM Corp., SIL
Open Font License 1.1, which puts no condition on pictures made with the font); the font files are not part of this
repository.

Run (the versions fix every pixel):

    pip install pillow==13.0.0 fontpkg-ibm-plex-sans==3.201 fontpkg-ibm-plex-serif==2.6 fontpkg-ibm-plex-mono==2.3
    python docs/make_page.py fila/assets/page.png
"""

import importlib.util
import math
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT, MARGIN = 1700, 2200, 116
INK, GREY, FAINT, RULE, WASH, PAPER = "#16202a", "#55616c", "#87919a", "#c4cbd1", "#eef1f3", "#ffffff"
ACCENT, ACCENT_WASH = "#0b5a66", "#e3eff0"
VAT_PERCENT = 21
ITEMS = [
    ("TM-310", "Dial gauge, brass, 0 to 100 bar", 2, "418.00"),
    ("TM-311", "Spare glass for TM-310, 92 mm", 4, "12.75"),
    ("RV-045", "Relief valve, stainless, DN 15", 6, "86.40"),
    ("HS-207", "Hydraulic hose, 4.5 m, black", 3, "57.90"),
    ("CL-900", "Calibration with certificate", 2, "149.00"),
    ("FR-001", "Freight, insured, two parcels", 1, "64.20"),
]


def font(family: str, size: int, weight: str = "Regular") -> ImageFont.FreeTypeFont:
    """Return one cut of IBM Plex: `family` is sans, serif or mono."""
    spec = importlib.util.find_spec(f"fontpkg_ibm_plex_{family}")
    if spec is None or spec.origin is None:
        raise SystemExit(f"fontpkg-ibm-plex-{family} is not installed; see the head of {__file__}.")
    files = Path(spec.origin).parent / "files"
    static = files / f"IBMPlex{family.title()}-{weight}.ttf"
    path = static if static.exists() else next(files.glob(f"IBMPlex{family.title()}[[]*.ttf"))
    found = ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
    if path != static:
        found.set_variation_by_name(weight)
    return found


def money(amount: Decimal) -> str:
    """Write euros the English way."""
    return f"{amount:,.2f}"


class Page:
    """A white sheet with the few drawing verbs the invoice needs; `at` is always (x, y) of the text's baseline."""

    def __init__(self) -> None:
        self.image = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
        self.draw = ImageDraw.Draw(self.image)

    def text(
        self, at: tuple[float, float], text: str, cut: ImageFont.FreeTypeFont, fill: str = INK, anchor: str = "ls"
    ) -> None:
        """Write one line."""
        self.draw.text(at, text, font=cut, fill=fill, anchor=anchor)

    def field(self, at: tuple[int, int], label: str, value: str, *, size: int = 31) -> None:
        """Write a label and, under it, its value."""
        self.text(at, label.upper(), font("sans", 20, "Medium"), GREY)
        self.text((at[0], at[1] + size + 11), value, font("sans", size, "Medium"))

    def pair(self, at: tuple[int, int], right: int, label: str, value: str) -> None:
        """Write `label: value` on one line, the value flush right, with a hair line below."""
        self.text(at, f"{label}:", font("sans", 25), GREY)
        self.text((right, at[1]), value, font("mono", 25, "Medium"), anchor="rs")
        self.draw.line([at[0], at[1] + 15, right, at[1] + 15], fill=RULE)

    def rule(self, y: int, *, fill: str = INK, width: int = 3) -> None:
        """Draw a line from margin to margin."""
        self.draw.line([MARGIN, y, WIDTH - MARGIN, y], fill=fill, width=width)

    def smooth(self, box: tuple[int, int, int, int], paint: Callable[[ImageDraw.ImageDraw, int], None]) -> None:
        """Paint at four times the size and shrink: curves without stairs. `paint(draw, scale)` draws in box pixels."""
        scale = 4
        size = ((box[2] - box[0]) * scale, (box[3] - box[1]) * scale)
        layer = self.image.crop(box).resize(size, Image.Resampling.NEAREST)
        paint(ImageDraw.Draw(layer), scale)
        self.image.paste(layer.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.BOX), box[:2])


def letterhead(page: Page) -> None:
    """Draw the mark, the name and the address."""

    def mark(draw: ImageDraw.ImageDraw, scale: int) -> None:
        for radius, fill in ((54, ACCENT), (41, PAPER), (31, ACCENT), (18, PAPER), (9, ACCENT)):
            draw.ellipse(
                [(56 - radius) * scale, (56 - radius) * scale, (56 + radius) * scale, (56 + radius) * scale], fill=fill
            )
        draw.rectangle([56 * scale, 0, 112 * scale, 56 * scale], fill=PAPER)
        draw.polygon([(60 * scale, 52 * scale), (108 * scale, 14 * scale), (98 * scale, 4 * scale)], fill=INK)

    page.smooth((MARGIN, 96, MARGIN + 112, 208), mark)
    page.text((MARGIN + 136, 156), "Tallis & Moor", font("serif", 62, "SemiBold"))
    page.text((MARGIN + 139, 198), "PRESSURE INSTRUMENTS SINCE 1931", font("sans", 22, "Medium"), ACCENT)
    for row, line in enumerate(
        (
            "14 Lockkeeper's Row, Harrow Basin",
            "Telephone: +44 1632 960 184",
            "accounts@tallis-moor.example",
            "VAT number: GB 917 4402 65",
        )
    ):
        page.text((WIDTH - MARGIN, 118 + 30 * row), line, font("sans", 23), GREY, "rs")
    page.rule(244)


def heading(page: Page, total: Decimal) -> None:
    """Draw the title, the box with the amount and the address fields."""
    page.text((MARGIN - 5, 376), "INVOICE", font("sans", 128, "Bold"))
    page.text((MARGIN, 436), "No. 20417", font("mono", 46, "Medium"), ACCENT)
    page.draw.rectangle([WIDTH - MARGIN - 560, 278, WIDTH - MARGIN, 446], fill=ACCENT)
    page.text((WIDTH - MARGIN - 528, 324), "TOTAL DUE BY 14 MARCH 2027", font("sans", 26, "SemiBold"), ACCENT_WASH)
    page.text((WIDTH - MARGIN - 32, 416), f"EUR {money(total)}", font("sans", 76, "Bold"), PAPER, "rs")
    columns = (MARGIN, MARGIN + 400, MARGIN + 770, MARGIN + 1130)
    fields = (
        ("Bill to", "Fenwick Dairy Ltd"), ("Invoice date", "12 February 2027"),
        ("Order number", "FD-88213"), ("Terms", "30 days net"),
        ("Attention", "Ms. R. Adeyemi"), ("Delivered on", "9 February 2027"),
        ("Parcels", "2 of 2, 31.6 kg"), ("Currency", "Euro (EUR)"),
    )  # fmt: skip
    for index, (label, value) in enumerate(fields):
        page.field((columns[index % 4], 516 + 92 * (index // 4)), label, value)


def dial(page: Page, centre: tuple[int, int], radius: int, reading: float) -> None:
    """Draw the gauge: 0 to 100 bar over 270 degrees, numbers at every ten."""
    reach = radius + 22
    left, top = centre[0] - reach, centre[1] - reach

    def point(value: float, distance: float, scale: int) -> tuple[float, float]:
        angle = math.radians(135 + 2.7 * value)
        return ((reach + distance * math.cos(angle)) * scale, (reach + distance * math.sin(angle)) * scale)

    def face(draw: ImageDraw.ImageDraw, scale: int) -> None:
        for grow, fill in ((22, INK), (14, RULE), (4, INK), (0, PAPER)):
            low, high = (reach - radius - grow) * scale, (reach + radius + grow) * scale
            draw.ellipse([low, low, high, high], fill=fill)
        inner, outer = radius - 30, radius - 12
        band = [(reach - outer) * scale, (reach - outer) * scale, (reach + outer) * scale, (reach + outer) * scale]
        draw.arc(band, 135, 135 + 2.7 * 70, fill=RULE, width=9 * scale)
        draw.arc(band, 135 + 2.7 * 70, 135 + 270, fill=ACCENT, width=9 * scale)
        for value in range(0, 101, 2):
            tall = value % 10 == 0
            draw.line(
                [point(value, inner - (22 if tall else 0), scale), point(value, inner + 8, scale)],
                fill=INK,
                width=(5 if tall else 2) * scale,
            )
        tip, tail = point(reading, radius - 48, scale), point(reading + 50 / 2.7 * 3.6, 44, scale)
        side = [point(reading + turn, 12, scale) for turn in (-33.3, 33.3)]
        draw.polygon([tip, side[1], tail, side[0]], fill=ACCENT)
        draw.ellipse(
            [(reach - 20) * scale, (reach - 20) * scale, (reach + 20) * scale, (reach + 20) * scale], fill=INK
        )

    page.smooth((left, top, left + 2 * reach, top + 2 * reach), face)
    for value in range(0, 101, 10):
        x, y = point(value, radius - 84, 1)
        page.text((left + x, top + y), str(value), font("sans", 29, "SemiBold"), anchor="mm")
    page.text((centre[0], centre[1] + 100), "bar", font("serif", 40, "SemiBold"), anchor="mm")
    page.text((centre[0], centre[1] + 138), "TM-310  No. 5562", font("mono", 17), GREY, "mm")


def calibration(page: Page) -> None:
    """Draw the panel with the dial between two columns of readings."""
    top, bottom, centre, radius = 716, 1382, (WIDTH // 2, 1082), 222
    page.draw.rectangle([MARGIN, top, WIDTH - MARGIN, bottom], fill=WASH)
    page.draw.rectangle([MARGIN, top, MARGIN + 10, bottom], fill=ACCENT)
    page.text((MARGIN + 40, top + 58), "Calibration on delivery", font("serif", 44, "SemiBold"))
    page.text(
        (WIDTH - MARGIN - 30, top + 54),
        "Certificate C-7731, valid until 9 February 2028",
        font("sans", 25),
        GREY,
        "rs",
    )
    dial(page, centre, radius, 64.0)
    left = (
        ("Serial number", "5562"), ("Range", "0-100 bar"), ("Class", "0.6"), ("Medium", "water"), ("Room", "20.3 C"),
        ("Humidity", "41 %"), ("Mounting", "vertical"), ("Seal", "K 118"), ("Inspector", "J. Okafor"),
    )  # fmt: skip
    right = (
        ("Applied 10", "10.02 bar"), ("Applied 20", "20.03 bar"), ("Applied 30", "29.98 bar"),
        ("Applied 40", "40.01 bar"), ("Applied 50", "50.05 bar"), ("Applied 60", "59.97 bar"),
        ("Applied 70", "70.04 bar"), ("Applied 80", "80.00 bar"), ("Hysteresis", "0.03 bar"),
    )  # fmt: skip
    for row, (label, value) in enumerate(left):
        page.pair((MARGIN + 40, top + 132 + 58 * row), MARGIN + 440, label, value)
    for row, (label, value) in enumerate(right):
        page.pair((WIDTH - MARGIN - 440, top + 132 + 58 * row), WIDTH - MARGIN - 30, label, value)
    page.text((centre[0], bottom - 26), "Reading at release: 64 bar", font("sans", 23, "Medium"), ACCENT, "ms")


def items(page: Page, top: int) -> int:
    """Draw the table of goods and return the y below it."""
    columns = (
        (MARGIN + 16, "ls", "Item"), (MARGIN + 210, "ls", "Description"), (MARGIN + 930, "rs", "Quantity"),
        (MARGIN + 1180, "rs", "Unit price"), (WIDTH - MARGIN - 16, "rs", "Amount"),
    )  # fmt: skip
    page.draw.rectangle([MARGIN, top, WIDTH - MARGIN, top + 52], fill=INK)
    for x, anchor, label in columns:
        page.text((x, top + 36), label, font("sans", 25, "SemiBold"), PAPER, anchor)
    for row, (code, what, quantity, price) in enumerate(ITEMS):
        y = top + 52 + 50 * row
        amount = quantity * Decimal(price)
        if row % 2:
            page.draw.rectangle([MARGIN, y, WIDTH - MARGIN, y + 49], fill=WASH)
        cells = (code, what, str(quantity), money(Decimal(price)), money(amount))
        for index, ((x, anchor, _), cell) in enumerate(zip(columns, cells, strict=True)):
            page.text((x, y + 35), cell, font("sans" if index == 1 else "mono", 26, "Regular"), INK, anchor)
    bottom = top + 52 + 50 * len(ITEMS)
    page.draw.line([MARGIN, bottom, WIDTH - MARGIN, bottom], fill=INK, width=3)
    return bottom


def footer(page: Page, top: int, net: Decimal, vat: Decimal, total: Decimal) -> None:
    """Draw how to pay, the sums and the small print."""
    page.text((MARGIN, top + 46), "How to pay", font("serif", 36, "SemiBold"))
    for row, (label, value) in enumerate(
        (("Bank", "Basin Mutual"), ("IBAN", "GB29 BMUT 6016 1331 9268 19"), ("Reference", "20417-FD"))
    ):
        page.pair((MARGIN, top + 94 + 46 * row), MARGIN + 690, label, value)
    left = WIDTH - MARGIN - 560
    for row, (label, amount) in enumerate((("Net amount", net), (f"VAT {VAT_PERCENT} %", vat))):
        page.text((left, top + 46 + 46 * row), label, font("sans", 28), GREY)
        page.text((WIDTH - MARGIN - 16, top + 46 + 46 * row), money(amount), font("mono", 28), anchor="rs")
    page.draw.rectangle([left - 24, top + 118, WIDTH - MARGIN, top + 190], fill=ACCENT_WASH)
    page.text((left, top + 166), "Total", font("sans", 36, "Bold"))
    page.text((WIDTH - MARGIN - 16, top + 166), f"EUR {money(total)}", font("mono", 36, "SemiBold"), anchor="rs")
    small = (
        "Goods stay the property of Tallis & Moor until paid in full. Claims for damage in transit must reach us "
        "within seven days of delivery, with a photograph of",
        "the parcel label. Instruments are calibrated against reference standard RS-4, last compared on 3 November "
        "2026. The warranty ends on 9 February 2029 or",
        "after 50,000 cycles, whichever is first. Return address for repairs: Dock Shed 3, Harrow Basin. "
        "Batch: B-0426. Form: TM-INV-7. Page 1 of 1.",
    )
    page.rule(HEIGHT - 154, fill=RULE, width=2)
    for row, line in enumerate(small):
        page.text((MARGIN, HEIGHT - 120 + 27 * row), line, font("sans", 19), GREY)


def draw_page() -> Image.Image:
    """Return the whole page."""
    page = Page()
    letterhead(page)
    net = sum((quantity * Decimal(price) for _, _, quantity, price in ITEMS), Decimal(0))
    vat = (net * VAT_PERCENT / 100).quantize(Decimal("0.01"))
    heading(page, net + vat)
    calibration(page)
    bottom = items(page, 1418)
    footer(page, bottom + 20, net, vat, net + vat)
    return page.image


if __name__ == "__main__":
    draw_page().save(sys.argv[1], optimize=True)
