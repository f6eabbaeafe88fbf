# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Contact sheets: one image under every canvas strategy, side by side and to one scale.

A panel shows the canvas with its tiles and padding, the overview, the image tokens and the share of the encoded pixels
that show the image. A canvas that is drawn larger keeps more of the image's detail.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw
from transformers.image_utils import ImageInput

from fila.look.drawing import CARD, GREY, HATCH, INK, OVERVIEW, RULE, SHEET, TILE, cross, fit, font, hatch, resize
from fila.look.processed_image import Seen, look
from fila.look.view_settings import Eyes
from fila.processing.canvas_plan import Box, Size
from fila.processing.image_input import image_size

COLUMNS, MARGIN, GAP, HEADER = 3, 36, 24, 96
PANEL, INSET, TOP, PICTURE, FOOT = 440, 18, 58, 300, 84
LINES = 70


@dataclass(frozen=True)
class Compared:
    """Result of one canvas strategy for an image.

    Attributes:
        name: Name of the strategy.
        seen: The processed image; None if the strategy does not fit the tokens or the layout.
        reason: Reason why the strategy does not fit; empty if it fits.
    """

    name: str
    seen: Seen | None
    reason: str = ""


def look_with_all(eyes: Eyes, image: ImageInput) -> list[Compared]:
    """Process one image with every canvas strategy, the eyes' own first, without high-res canvases.

    Args:
        eyes: Settings of patches, tokens and layout.
        image: A loaded image.

    Raises:
        ImageInputError: If the image cannot be used.
    """
    found = []
    size = Size(*image_size(image, None, 0))
    for other in eyes.all_canvases():
        low = other.with_canvas(other.image_processor.canvas)
        low.image_processor.high_res_size = None  # type: ignore[assignment]
        try:
            low.num_tokens(low.plan(low.fitted(size)))
        except ValueError as error:
            found.append(Compared(other.canvas, None, str(error)))
        else:
            found.append(Compared(other.canvas, look(low, image)))
    return found


def draw_contact_sheet(compared: Sequence[Compared], *, title: str, subtitle: str = "") -> Image.Image:
    """Draw the contact sheet.

    Args:
        compared: One image under several strategies, from `look_with_all`.
        title: The image's name.
        subtitle: Name of the settings.

    Returns:
        An RGB picture, a panel for each strategy in the given order.
    """
    shown = [each.seen for each in compared if each.seen is not None]
    scale = min((_scale(seen) for seen in shown), default=1.0)
    rows = [compared[first : first + COLUMNS] for first in range(0, len(compared), COLUMNS)]
    heights = [max(_height(each.seen, scale) for each in row) for row in rows]
    width = 2 * MARGIN + COLUMNS * PANEL + (COLUMNS - 1) * GAP
    bottom = HEADER + sum(TOP + height + FOOT + GAP for height in heights) - GAP + MARGIN
    sheet = Image.new("RGB", (width, bottom), SHEET)
    draw = ImageDraw.Draw(sheet)
    size = f"  {cross(shown[0].source_size)}" if shown else ""
    draw.text((MARGIN, 58), fit(draw, title + size, 32, width * 0.55), font=font(32), fill=INK, anchor="ls")
    told = f"{subtitle}; all canvases to one scale" if subtitle else "all canvases to one scale"
    draw.text((width - MARGIN, 58), fit(draw, told, 17, width * 0.4), font=font(17), fill=GREY, anchor="rs")
    top = HEADER
    for row, height in zip(rows, heights, strict=True):
        for column, each in enumerate(row):
            _draw_panel(sheet, each, scale, (MARGIN + column * (PANEL + GAP), top), height)
        top += TOP + height + FOOT + GAP
    return sheet


def _draw_panel(sheet: Image.Image, each: Compared, scale: float, at: tuple[int, int], height: int) -> None:
    """Draw one strategy's panel; its pictures take up to the given height."""
    draw, (left, top), right = ImageDraw.Draw(sheet), at, at[0] + PANEL - INSET
    draw.rounded_rectangle([left, top, left + PANEL, top + TOP + height + FOOT], radius=10, fill=CARD, outline=RULE)
    draw.text((left + INSET, top + 40), each.name, font=font(24), fill=INK, anchor="ls")
    if each.seen is None:
        _draw_lines(draw, fit(draw, each.reason, 14, 3 * (PANEL - 2 * INSET)), (left + INSET, top + TOP + 24))
        return
    draw.text((right, top + 40), f"{each.seen.num_tokens:,} tokens", font=font(24), fill=TILE, anchor="rs")
    _draw_pictures(sheet, each.seen, scale, (left + INSET, top + TOP))
    _draw_foot(draw, each.seen, (left + INSET, top + TOP + height), right)


def _height(seen: Seen | None, scale: float) -> int:
    """Return the height of a panel's pictures in pixels."""
    if seen is None:
        return LINES
    tallest = max(seen.plan.canvas_size[0], seen.plan.overview_size[0] if seen.plan.overview_size else 0)
    return max(LINES, round(tallest * scale)) + 10


def _scale(seen: Seen) -> float:
    """Return the largest scale at which canvas and overview fit side by side into a panel."""
    height, width = seen.plan.canvas_size
    if seen.plan.overview_size is not None:
        height = max(height, seen.plan.overview_size.height)
        width += seen.plan.overview_size.width
    return min((PANEL - 2 * INSET - 14) / width, (PICTURE - 4) / height)


def _draw_pictures(sheet: Image.Image, seen: Seen, scale: float, at: tuple[int, int]) -> None:
    draw, (x, y) = ImageDraw.Draw(sheet), at

    def scaled(box: Box, x: int, y: int) -> tuple[int, int, int, int]:
        left, top = x + round(box.left * scale), y + round(box.top * scale)
        return left, top, max(left + 1, x + round(box.right * scale)), max(top + 1, y + round(box.bottom * scale))

    whole = scaled(Box(0, 0, *seen.plan.canvas_size), x, y)
    for view, box in zip(seen.views[seen.first_tile :], seen.plan.tile_boxes, strict=True):
        left, top, right, bottom = scaled(box, x, y)
        sheet.paste(resize(view, (right - left, bottom - top)), (left, top))
    hatch(sheet, whole, scaled(seen.plan.content_box, x, y), step=8)
    for box in seen.plan.tile_boxes:
        left, top, right, bottom = scaled(box, x, y)
        draw.rectangle([left - 1, top - 1, right, bottom], outline=TILE, width=2)
    if seen.plan.overview_size is not None and seen.plan.content_in_overview is not None:
        x = whole[2] + 14
        left, top, right, bottom = scaled(Box(0, 0, *seen.plan.overview_size), x, y)
        sheet.paste(resize(seen.views[0], (right - left, bottom - top)), (left, top))
        hatch(sheet, (left, top, right, bottom), scaled(seen.plan.content_in_overview, x, y), step=8)
        draw.rectangle([left - 1, top - 1, right, bottom], outline=OVERVIEW, width=2)


def _draw_foot(draw: ImageDraw.ImageDraw, seen: Seen, at: tuple[int, int], right: int) -> None:
    (x, y), plan = at, seen.plan
    overview = f", overview {cross(plan.overview_size)}" if plan.overview_size else ""
    told = f"{tiles_told(seen)} on {cross(plan.canvas_size)}{overview}"
    draw.text((x, y + 26), fit(draw, told, 16, right - x), font=font(16), fill=INK, anchor="ls")
    label = f"{seen.real_share:.0%} of the encoded pixels show the image"
    draw.text((x, y + 50), label, font=font(16), fill=GREY, anchor="ls")
    draw.rectangle([x, y + 60, right - 1, y + 67], fill=HATCH)
    draw.rectangle([x, y + 60, x + round((right - 1 - x) * seen.real_share), y + 67], fill=OVERVIEW)


def tiles_told(seen: Seen) -> str:
    """Return `one view`, or the tile grid as text."""
    return "one view" if seen.plan.num_views == 1 else f"{cross(seen.plan.tile_grid)} tiles"


def _draw_lines(draw: ImageDraw.ImageDraw, text: str, at: tuple[int, int]) -> None:
    """Draw a text, wrapped to the width of a panel."""
    line, (x, y) = "", at
    for word in [*text.split(), ""]:
        if not word or draw.textlength(f"{line} {word}", font=font(14)) > PANEL - 2 * INSET:
            draw.text((x, y), line, font=font(14), fill=GREY, anchor="ls")
            line, y = word, y + 20
        else:
            line = f"{line} {word}".strip()
