# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Draws what a model sees of an image: the canvas with its tiles, the overview, the high-res canvas and the tokens.

The pictures are the image processor's own pixel tensors with the normalisation undone, not a second rendering. Sizes
are (height, width) in pixels of the canvas unless a name says `picture`; positions on the picture are (x, y) as PIL
wants.
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from fila.processing.canvas_plan import Box, CanvasPlan

INK, GREY, RULE, SHEET, CARD = "#16202a", "#5f6b76", "#cfd5da", "#f4f6f7", "#ffffff"
TILE, OVERVIEW = "#e8590c", "#0b6b78"
HATCH = "#9aa5ae"
CANVAS_SIDE = 1008
MARGIN, GAP, HEADER, LEGEND, STRIP = 36, 40, 172, 62, 122
BORDER = 3
CAPTION = 34
MIN_COLUMN, MIN_WIDTH = 336, 1060


@dataclass(frozen=True)
class Seen:
    """One image as the image processor handed it on.

    Attributes:
        plan: Where image and tiles lie on the canvas.
        views: The views as pictures, overview first.
        high_res: The high-res canvas as a picture, or None when the processor draws none.
        tokens_per_tile: Image tokens that one view becomes.
    """

    plan: CanvasPlan
    views: tuple[Image.Image, ...]
    high_res: Image.Image | None
    tokens_per_tile: int

    @property
    def num_tokens(self) -> int:
        """Image tokens of the whole image."""
        return self.plan.num_views * self.tokens_per_tile


@dataclass(frozen=True)
class Layout:
    """Where the parts of the picture lie.

    Attributes:
        scale: Picture pixels per canvas pixel.
        canvas_at: (x, y) of the canvas's top left corner.
        column_at: (x, y) of the right column: overview and high-res canvas.
        column_width: Width of the right column.
        size: (width, height) of the picture.
    """

    scale: float
    canvas_at: tuple[int, int]
    column_at: tuple[int, int]
    column_width: int
    size: tuple[int, int]

    def box(self, box: Box) -> tuple[int, int, int, int]:
        """A box of the canvas as (left, top, right, bottom) on the picture; right and bottom exclusive."""
        x, y = self.canvas_at
        left, top = x + round(box.left * self.scale), y + round(box.top * self.scale)
        return left, top, x + round(box.right * self.scale), y + round(box.bottom * self.scale)


def look(image_processor: Any, image: Any, tokens_per_tile: int) -> Seen:
    """Run an image processor on one image and undo its normalisation.

    Args:
        image_processor: A `FilaImageProcessor` of either backend.
        image: Anything it takes as one image.
        tokens_per_tile: Image tokens that one view becomes.

    Returns:
        The plan and the pictures.
    """
    batch = image_processor(images=[image], return_tensors="pt")
    arrays = {name: np.asarray(values[0]) for name, values in batch.items()}
    height, width = image_size(image)
    plan = image_processor.plan(height, width)
    mean, std = image_processor.image_mean, image_processor.image_std
    views = [_picture(image_processor, view, mean, std) for view in arrays["pixel_values"][: plan.num_views]]
    high_res = None
    if "high_res_pixel_values" in arrays:
        rows, cols = arrays["high_res_sizes"].tolist()
        mean, std = image_processor.high_res_image_mean, image_processor.high_res_image_std
        high_res = _picture(image_processor, arrays["high_res_pixel_values"][:, :rows, :cols], mean, std)
    return Seen(plan, tuple(views), high_res, tokens_per_tile)


def image_size(image: Any) -> tuple[int, int]:
    """(height, width) of a PIL image."""
    width, height = image.size
    return height, width


def _picture(
    image_processor: Any, pixels: npt.NDArray[Any], mean: Sequence[float], std: Sequence[float]
) -> Image.Image:
    """Turn normalised `(3, H, W)` floats back into an 8-bit picture."""
    shown = pixels.astype(np.float64)
    if image_processor.do_normalize:
        shown = shown * np.reshape(std, (3, 1, 1)) + np.reshape(mean, (3, 1, 1))
    if image_processor.do_rescale:
        shown = shown / image_processor.rescale_factor
    return Image.fromarray(np.clip(np.rint(shown), 0, 255).astype(np.uint8).transpose(1, 2, 0), "RGB")


def lay_out(seen: Seen) -> Layout:
    """Decide sizes and positions; whole-number magnification where the canvas fits, so that pixels stay pixels."""
    height, width = seen.plan.canvas_size
    scale: float = CANVAS_SIDE // max(height, width)
    if scale < 1:
        scale = CANVAS_SIDE / max(height, width)
    canvas = (round(width * scale), round(height * scale))
    column_width = max(MIN_COLUMN, _overview_size(seen, scale)[0])
    body = max(CAPTION + canvas[1], _column_height(seen, scale, column_width))
    picture_width = max(MARGIN + canvas[0] + GAP + column_width + MARGIN, MIN_WIDTH)
    return Layout(
        scale=scale,
        canvas_at=(MARGIN, HEADER + CAPTION),
        column_at=(MARGIN + canvas[0] + GAP, HEADER),
        column_width=column_width,
        size=(picture_width, HEADER + body + LEGEND + STRIP),
    )


def _overview_size(seen: Seen, scale: float) -> tuple[int, int]:
    if seen.plan.overview_size is None:
        return 0, 0
    height, width = seen.plan.overview_size
    shrink = min(1.0, 504 / (max(height, width) * scale))
    return round(width * scale * shrink), round(height * scale * shrink)


def _high_res_size(seen: Seen, column_width: int) -> tuple[int, int]:
    if seen.high_res is None:
        return 0, 0
    width, height = seen.high_res.size
    scale = min(column_width / width, 336 / height)
    return round(width * scale), round(height * scale)


def _column_height(seen: Seen, scale: float, column_width: int) -> int:
    heights = [_overview_size(seen, scale)[1], _high_res_size(seen, column_width)[1]]
    return sum(CAPTION + height + 24 for height in heights if height) - 24


def draw_view(seen: Seen, *, title: str, subtitle: str = "") -> Image.Image:
    """Draw the picture.

    Args:
        seen: The image as the processor handed it on.
        title: First line, the image's name.
        subtitle: Second line, whose eyes these are: a checkpoint's name or the canvas's settings.

    Returns:
        An RGB picture; `lay_out(seen)` tells where its parts lie.
    """
    layout = lay_out(seen)
    picture = Image.new("RGB", layout.size, SHEET)
    draw = ImageDraw.Draw(picture)
    _draw_header(draw, seen, layout, title, subtitle)
    _draw_canvas(picture, seen, layout)
    _draw_column(picture, seen, layout)
    _draw_legend(picture, seen, layout)
    _draw_strip(draw, seen, layout)
    return picture


def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _fit(draw: ImageDraw.ImageDraw, text: str, font: Any, width: float) -> str:
    """Shorten in the middle until it fits."""
    shortest_first = range(len(text))
    keep = bisect.bisect_left(shortest_first, True, key=lambda keep: draw.textlength(_elide(text, keep), font) > width)
    return text if keep == len(text) else _elide(text, max(0, keep - 1))


def _elide(text: str, keep: int) -> str:
    return text[: (keep + 1) // 2] + "..." + text[len(text) - keep // 2 :]


def _draw_header(draw: ImageDraw.ImageDraw, seen: Seen, layout: Layout, title: str, subtitle: str) -> None:
    width, plan = layout.size[0], seen.plan
    draw.text((MARGIN, 58), _fit(draw, title, _font(32), width * 0.55), font=_font(32), fill=INK, anchor="ls")
    room = width * 0.4
    draw.text((width - MARGIN, 58), _fit(draw, subtitle, _font(17), room), font=_font(17), fill=GREY, anchor="rs")
    facts = [
        ("image, height x width", _cross(plan.image_size)),
        ("canvas", _cross(plan.canvas_size)),
        ("tiles", _cross(plan.tile_grid)),
        ("overview", _cross(plan.overview_size) if plan.overview_size else "none"),
        ("high-res canvas", _cross(seen.high_res.size[::-1]) if seen.high_res else "none"),
        ("tokens per view", f"{seen.tokens_per_tile:,}"),
        ("image tokens", f"{seen.num_tokens:,}"),
    ]
    draw.rounded_rectangle([MARGIN, 80, width - MARGIN - 1, 150], radius=8, fill=CARD, outline=RULE)
    widths = [
        max(draw.textlength(label, font=_font(14)), draw.textlength(value, font=_font(23))) for label, value in facts
    ]
    slack = (width - 2 * MARGIN - sum(widths)) / len(facts)
    x = float(MARGIN)
    for index, ((label, value), column) in enumerate(zip(facts, widths, strict=True)):
        if index:
            draw.line([x, 92, x, 138], fill=RULE)
        last = index == len(facts) - 1
        draw.text((x + slack / 2, 105), label, font=_font(14), fill=GREY, anchor="ls")
        draw.text((x + slack / 2, 136), value, font=_font(23), fill=TILE if last else INK, anchor="ls")
        x += column + slack


def _cross(size: Sequence[int]) -> str:
    return f"{size[0]} x {size[1]}"


def _draw_canvas(picture: Image.Image, seen: Seen, layout: Layout) -> None:
    draw, plan = ImageDraw.Draw(picture), seen.plan
    x, y = layout.canvas_at
    draw.text((x, y - 12), "Canvas: the low-res tower sees each tile alone", font=_font(17), fill=GREY, anchor="ls")
    first = plan.num_views - plan.num_tiles
    for view, box in zip(seen.views[first:], plan.tile_boxes, strict=True):
        left, top, right, bottom = layout.box(box)
        picture.paste(_resize(view, (right - left, bottom - top)), (left, top))
    whole = layout.box(Box(0, 0, *plan.canvas_size))
    _hatch(picture, whole, layout.box(plan.content_box))
    for box in plan.tile_boxes:
        left, top, right, bottom = layout.box(box)
        draw.rectangle([left - 1, top - 1, right, bottom], outline=TILE, width=BORDER)
    for number, box in enumerate(plan.tile_boxes, start=first + 1):
        left, top, _, _ = layout.box(box)
        _badge(draw, (left + 10, top + 10), number, TILE)


def _resize(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Magnify by repeating pixels, shrink by averaging them."""
    grows = size[0] >= picture.size[0]
    return picture.resize(size, Image.Resampling.NEAREST if grows else Image.Resampling.BOX)


def _hatch(picture: Image.Image, whole: tuple[int, int, int, int], content: tuple[int, int, int, int]) -> None:
    """Draw slanted lines over `whole` minus `content`, over the padding's own colour."""
    left, top, right, bottom = whole
    columns, rows = np.meshgrid(np.arange(right - left), np.arange(bottom - top))
    lines = (columns + rows) % 14 < 2
    lines[content[1] - top : content[3] - top, content[0] - left : content[2] - left] = False
    picture.paste(HATCH, whole, Image.fromarray((lines * 255).astype(np.uint8), "L"))


def _badge(draw: ImageDraw.ImageDraw, at: tuple[int, int], number: int, fill: str) -> None:
    """Draw a view's number in a filled, white-rimmed square."""
    x, y = at
    draw.rounded_rectangle([x, y, x + 36, y + 34], radius=6, fill=fill, outline=CARD, width=2)
    draw.text((x + 18, y + 17), str(number), font=_font(21), fill=CARD, anchor="mm")


def _draw_column(picture: Image.Image, seen: Seen, layout: Layout) -> None:
    draw, plan = ImageDraw.Draw(picture), seen.plan
    x, y = layout.column_at
    if plan.overview_size is not None:
        size = _overview_size(seen, layout.scale)
        draw.text((x, y + 22), "Overview: the whole image as one view", font=_font(17), fill=GREY, anchor="ls")
        picture.paste(_resize(seen.views[0], size), (x, y + CAPTION))
        draw.rectangle([x - 1, y + CAPTION - 1, x + size[0], y + CAPTION + size[1]], outline=OVERVIEW, width=BORDER)
        _badge(draw, (x + 10, y + CAPTION + 10), 1, OVERVIEW)
        y += CAPTION + size[1] + 24
    if seen.high_res is not None:
        size = _high_res_size(seen, layout.column_width)
        draw.text((x, y + 22), "High-res canvas: its tower sees it whole", font=_font(17), fill=GREY, anchor="ls")
        picture.paste(seen.high_res.resize(size, Image.Resampling.BOX), (x, y + CAPTION))
        draw.rectangle([x - 1, y + CAPTION - 1, x + size[0], y + CAPTION + size[1]], outline=INK)


def _draw_legend(picture: Image.Image, seen: Seen, layout: Layout) -> None:
    draw = ImageDraw.Draw(picture)
    x, y = MARGIN, layout.size[1] - STRIP - 40
    draw.rectangle([x, y, x + 34, y + 22], fill=CARD, outline=TILE, width=BORDER)
    x = _legend_text(draw, (x, y), "tile border")
    if tuple(seen.plan.content_box) != (0, 0, *seen.plan.canvas_size):
        draw.rectangle([x, y, x + 34, y + 22], fill=_padding_colour(seen))
        _hatch(picture, (x, y, x + 35, y + 23), (x, y, x, y))
        x = _legend_text(draw, (x, y), "padding, not part of the image")
    draw.rounded_rectangle([x, y, x + 34, y + 22], radius=5, fill=INK)
    draw.text((x + 17, y + 11), "n", font=_font(16), fill=CARD, anchor="mm")
    _legend_text(draw, (x, y), "place of the view in the prompt")


def _legend_text(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str) -> int:
    """Write beside a swatch; return the x of the next swatch."""
    draw.text((at[0] + 46, at[1] + 17), text, font=_font(17), fill=INK, anchor="ls")
    return at[0] + 46 + round(draw.textlength(text, font=_font(17))) + 36


def _padding_colour(seen: Seen) -> tuple[int, ...]:
    """The colour that the canvas really has in its last corner, which is padding where an image is centred."""
    corner = seen.views[-1]
    colour = corner.getpixel((corner.size[0] - 1, corner.size[1] - 1))
    return colour if isinstance(colour, tuple) else (0, 0, 0)


def _draw_strip(draw: ImageDraw.ImageDraw, seen: Seen, layout: Layout) -> None:
    """Draw the run of image tokens, one segment per view."""
    width, height = layout.size
    top, bottom, plan = height - 74, height - 30, seen.plan
    product = f"{plan.num_views} x {seen.tokens_per_tile:,} = {seen.num_tokens:,}"
    text = f"Image tokens as the language model reads them: {product}"
    draw.text((MARGIN, top - 14), text, font=_font(17), fill=GREY, anchor="ls")
    step = (width - 2 * MARGIN) / plan.num_views
    for index in range(plan.num_views):
        left, right = round(MARGIN + step * index), round(MARGIN + step * (index + 1)) - 3
        is_overview = plan.overview_size is not None and index == 0
        draw.rounded_rectangle([left, top, right, bottom], radius=5, fill=OVERVIEW if is_overview else TILE)
        label = str(index + 1)
        if step > 150:
            label += "  overview" if is_overview else f"  tile {_place(plan, index)}"
        if step > 22:
            draw.text(((left + right) // 2, (top + bottom) // 2), label, font=_font(18), fill=CARD, anchor="mm")


def _place(plan: CanvasPlan, view: int) -> str:
    """Row and column of a tile, counted from 1."""
    tile = view - (plan.num_views - plan.num_tiles)
    return f"row {tile // plan.tile_grid[1] + 1}, col {tile % plan.tile_grid[1] + 1}"
