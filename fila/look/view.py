# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Pictures of a model's input: the canvas with its tiles, the overview, the high-res canvas and the tokens.

The pictures are the image processor's own pixel tensors with the normalisation undone, not a second rendering. Sizes
are (height, width) in pixels of the canvas unless a name says `picture`; positions on the picture are (x, y) as PIL
wants.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from fila.look.drawing import (
    BORDER,
    CARD,
    CHOSEN,
    GREY,
    INK,
    OVERVIEW,
    QUIET,
    RULE,
    SHEET,
    TILE,
    Rectangle,
    badge,
    cross,
    fit,
    font,
    hatch,
    resize,
    tint,
)
from fila.look.processed_image import Seen
from fila.look.token_strip import draw_strip, strip_height
from fila.processing.canvas_plan import Box

CANVAS_SIDE, OVERVIEW_SIDE, SMALL_SIDE = 1008, 504, 336
MARGIN, GAP, HEADER, LEGEND = 36, 40, 172, 62
CAPTION, BETWEEN = 34, 24
VEIL = 150  # of 255, over cells whose tokens are left out
MIN_CANVAS, MIN_COLUMN, MIN_WIDTH = 360, 336, 1120  # room for captions and facts


@dataclass(frozen=True)
class Layout:
    """Positions of the parts of the picture.

    Attributes:
        scale: Picture pixels per canvas pixel.
        canvas_at: (x, y) of the canvas's top left corner.
        overview: Rectangle of the overview; None without one.
        high_res: Rectangle of the high-res canvas; None without one.
        source: Rectangle of the image itself, which is drawn where tokens are marked on it; else None.
        size: (width, height) of the picture.
    """

    scale: float
    canvas_at: tuple[int, int]
    overview: Rectangle | None
    high_res: Rectangle | None
    source: Rectangle | None
    size: tuple[int, int]

    def box(self, box: Box) -> Rectangle:
        """Convert a box of the canvas to (left, top, right, bottom) on the picture; right and bottom exclusive."""
        x, y = self.canvas_at
        left, top = x + round(box.left * self.scale), y + round(box.top * self.scale)
        right, bottom = x + round(box.right * self.scale), y + round(box.bottom * self.scale)
        return left, top, max(right, left + 1), max(bottom, top + 1)


def lay_out(seen: Seen, tokens: Sequence[int] = ()) -> Layout:
    """Compute sizes and positions, with an integer magnification if the canvas fits, to keep pixels sharp."""
    height, width = seen.plan.canvas_size
    scale: float = CANVAS_SIDE // max(height, width)
    if scale < 1:
        scale = CANVAS_SIDE / max(height, width)
    canvas_width, canvas_height = max(1, round(width * scale)), max(1, round(height * scale))
    overview = None
    if (size := seen.plan.overview_size) is not None:
        shrink = min(scale, OVERVIEW_SIDE / max(size))
        overview = max(1, round(size.width * shrink)), max(1, round(size.height * shrink))
    column_width = max(MIN_COLUMN, 0 if overview is None else overview[0])
    high_res = None if seen.high_res is None else _inside(seen.high_res.size, column_width, SMALL_SIDE)
    # Where the next picture begins: (left, top, width) below the canvas and in the right column.
    below = [MARGIN, HEADER + CAPTION + canvas_height + BETWEEN, canvas_width]
    column = [MARGIN + max(canvas_width, MIN_CANVAS) + GAP, HEADER, column_width]
    overview_at = _place(column, overview)
    high_res_at = _place(column, high_res)
    source_at = None
    if tokens:
        shorter = below if below[1] < column[1] and canvas_width >= MIN_COLUMN else column
        source_at = _place(shorter, _inside(seen.image.size, shorter[2], OVERVIEW_SIDE))
    return Layout(
        scale=scale,
        canvas_at=(MARGIN, HEADER + CAPTION),
        overview=overview_at,
        source=source_at,
        high_res=high_res_at,
        size=(
            max(column[0] + column_width + MARGIN, MIN_WIDTH),
            max(below[1], column[1]) - BETWEEN + LEGEND + strip_height(seen),
        ),
    )


def _place(column: list[int], size: tuple[int, int] | None) -> Rectangle | None:
    """Return the next rectangle of a column (left, top, width), and extend the column by it and its caption."""
    if size is None:
        return None
    left, top = column[0], column[1] + CAPTION
    column[1] = top + size[1] + BETWEEN
    return left, top, left + size[0], top + size[1]


def _inside(size: tuple[int, int], width: int, height: int) -> tuple[int, int]:
    """Return the largest size inside width x height with the aspect ratio of `size`."""
    scale = min(width / size[0], height / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def draw_view(seen: Seen, *, title: str, subtitle: str = "", tokens: Sequence[int] = ()) -> Image.Image:
    """Draw the picture.

    Args:
        seen: The processed image.
        title: First line, the image's name.
        subtitle: Second line: a checkpoint's name or the canvas's settings.
        tokens: Image tokens to mark, by their places in the prompt: on the view, and on the image itself.

    Returns:
        An RGB picture; `lay_out(seen, tokens)` returns the positions of its parts.

    Raises:
        ValueError: If the image has no such token.
    """
    layout = lay_out(seen, tokens)
    picture = Image.new("RGB", layout.size, SHEET)
    _draw_header(picture, seen, title, subtitle)
    _draw_canvas(picture, seen, layout)
    _draw_column(picture, seen, layout)
    _veil_left_out(picture, seen, layout)
    _mark_tokens(picture, seen, layout, tokens)
    _draw_legend(picture, seen, with_tokens=bool(tokens))
    draw_strip(picture, seen, left=MARGIN, right=layout.size[0] - MARGIN, tokens=tokens)
    return picture


def _draw_header(picture: Image.Image, seen: Seen, title: str, subtitle: str) -> None:
    draw, width, plan = ImageDraw.Draw(picture), picture.size[0], seen.plan
    draw.text((MARGIN, 58), fit(draw, title, 32, width * 0.5), font=font(32), fill=INK, anchor="ls")
    room = width * 0.45
    draw.text((width - MARGIN, 58), fit(draw, subtitle, 17, room), font=font(17), fill=GREY, anchor="rs")
    shrunk = seen.source_size != plan.image_size
    of_all = f" of {seen.num_tokens + len(seen.left_out):,}" if seen.left_out else ""
    facts = [
        ("image, height x width", cross(seen.source_size)),
        *([("shrunk by a limit to", cross(plan.image_size))] if shrunk else []),
        ("canvas", cross(plan.canvas_size)),
        ("tiles", cross(plan.tile_grid)),
        ("overview", cross(plan.overview_size) if plan.overview_size else "none"),
        ("high-res canvas", cross(seen.high_res.size[::-1]) if seen.high_res else "none"),
        ("not padding", f"{seen.real_share:.0%}"),
        ("image tokens", f"{seen.num_tokens:,}{of_all}"),
    ]
    draw.rounded_rectangle([MARGIN, 80, width - MARGIN - 1, 150], radius=8, fill=CARD, outline=RULE)
    size = 19 if shrunk else 23
    widths = [max(draw.textlength(label, font=font(14)), draw.textlength(value, font(size))) for label, value in facts]
    slack = (width - 2 * MARGIN - sum(widths)) / len(facts)
    x = float(MARGIN)
    for index, ((label, value), column) in enumerate(zip(facts, widths, strict=True)):
        if index:
            draw.line([x, 92, x, 138], fill=RULE)
        last = index == len(facts) - 1
        draw.text((x + slack / 2, 105), label, font=font(14), fill=GREY, anchor="ls")
        draw.text((x + slack / 2, 136), value, font=font(size), fill=TILE if last else INK, anchor="ls")
        x += column + slack


def _draw_canvas(picture: Image.Image, seen: Seen, layout: Layout) -> None:
    draw, plan = ImageDraw.Draw(picture), seen.plan
    x, y = layout.canvas_at
    caption = "Canvas: the low-res tower sees each tile alone"
    if plan.num_views == 1:
        caption = "Canvas: the only view"
    draw.text((x, y - 12), caption, font=font(17), fill=GREY, anchor="ls")
    for view, box in zip(seen.views[seen.first_tile :], plan.tile_boxes, strict=True):
        left, top, right, bottom = layout.box(box)
        picture.paste(resize(view, (right - left, bottom - top)), (left, top))
    hatch(picture, layout.box(Box(0, 0, *plan.canvas_size)), layout.box(plan.content_box))
    for box in plan.tile_boxes:
        left, top, right, bottom = layout.box(box)
        draw.rectangle([left - 1, top - 1, right, bottom], outline=TILE, width=BORDER)
    for number, box in enumerate(plan.tile_boxes, start=seen.first_tile):
        badge(draw, layout.box(box), place_in_prompt(seen, number), TILE)


def place_in_prompt(seen: Seen, view: int) -> str:
    """Return a view's number in the order of the prompt, from 1; a dash if the layout leaves it out."""
    return str(seen.view_order.index(view) + 1) if view in seen.view_order else "-"


def _draw_column(picture: Image.Image, seen: Seen, layout: Layout) -> None:
    draw, plan = ImageDraw.Draw(picture), seen.plan

    def caption(rectangle: Rectangle, text: str) -> None:
        draw.text((rectangle[0], rectangle[1] - 12), text, font=font(17), fill=GREY, anchor="ls")

    if layout.overview is not None and plan.overview_size is not None and plan.content_in_overview is not None:
        left, top, right, bottom = layout.overview
        is_read = 0 in seen.view_order
        caption(layout.overview, "Overview: the whole image" if is_read else "Overview: not in the prompt")
        picture.paste(resize(seen.views[0], (right - left, bottom - top)), (left, top))
        by = (right - left) / plan.overview_size.width, (bottom - top) / plan.overview_size.height
        content = plan.content_in_overview
        inner = (content.left * by[0], content.top * by[1], content.right * by[0], content.bottom * by[1])
        x, y, *_ = layout.overview
        hatch(
            picture,
            layout.overview,
            (x + round(inner[0]), y + round(inner[1]), x + round(inner[2]), y + round(inner[3])),
        )
        draw.rectangle([left - 1, top - 1, right, bottom], outline=OVERVIEW, width=BORDER)
        badge(draw, layout.overview, place_in_prompt(seen, 0), OVERVIEW)
    if layout.source is not None:
        left, top, right, bottom = layout.source
        caption(layout.source, "The image: what the marked tokens show")
        picture.paste(seen.image.resize((right - left, bottom - top), Image.Resampling.BOX), (left, top))
        draw.rectangle([left - 1, top - 1, right, bottom], outline=INK)
    if layout.high_res is not None and seen.high_res is not None:
        left, top, right, bottom = layout.high_res
        caption(layout.high_res, "High-res canvas: its tower sees it whole")
        picture.paste(seen.high_res.resize((right - left, bottom - top), Image.Resampling.BOX), (left, top))
        draw.rectangle([left - 1, top - 1, right, bottom], outline=INK)


def _veil_left_out(picture: Image.Image, seen: Seen, layout: Layout) -> None:
    """Veil the cells whose tokens are left out, on the canvas and on the overview."""
    veil = Image.new("L", picture.size, 0)
    draw = ImageDraw.Draw(veil)
    for token in seen.left_out:
        place = seen.place(token)
        whole = layout.overview if place.view < seen.first_tile else None
        left, top, right, bottom = _cell(whole or layout.box(seen.plan.view_boxes[place.view]), seen, place)
        draw.rectangle([left, top, max(left, right - 1), max(top, bottom - 1)], fill=VEIL)
    picture.paste(QUIET, (0, 0), veil)


def _mark_tokens(picture: Image.Image, seen: Seen, layout: Layout, tokens: Sequence[int]) -> None:
    """Mark tokens as cells of their views and as boxes on the image."""
    cells, boxes = [], []
    for token in tokens:
        place, box = seen.shown_by(token)
        if place is None:
            continue
        whole = layout.overview if place.view < seen.first_tile else None
        cells.append(_cell(whole or layout.box(seen.plan.view_boxes[place.view]), seen, place))
        if box is not None and layout.source is not None:
            left, top, right, bottom = layout.source
            x, y = (right - left) / seen.source_size.width, (bottom - top) / seen.source_size.height
            edges = (left + box.left * x, top + box.top * y, left + box.right * x, top + box.bottom * y)
            boxes.append((round(edges[0]), round(edges[1]), round(edges[2]), round(edges[3])))
    tint(picture, cells, CHOSEN)
    tint(picture, boxes, CHOSEN)


def _cell(view: Rectangle, seen: Seen, place: tuple[int, int, int]) -> Rectangle:
    """Return a token's cell in a view's rectangle, or the whole rectangle if tokens form no grid."""
    number, row, col = place
    grid = seen.token_grids[number]
    if grid is None:
        return view
    left, top, right, bottom = view
    height, width = (bottom - top) / grid[0], (right - left) / grid[1]
    return (
        round(left + col * width),
        round(top + row * height),
        round(left + (col + 1) * width),
        round(top + (row + 1) * height),
    )


def _draw_legend(picture: Image.Image, seen: Seen, *, with_tokens: bool) -> None:
    draw = ImageDraw.Draw(picture)
    x, y = MARGIN, picture.size[1] - strip_height(seen) - 40
    draw.rectangle([x, y, x + 34, y + 22], fill=CARD, outline=TILE, width=BORDER)
    x = _legend_text(draw, (x, y), "tile border")
    if seen.real_share < 1:
        draw.rectangle([x, y, x + 34, y + 22], fill=seen.plan.fill)
        hatch(picture, (x, y, x + 35, y + 23), (x, y, x, y))
        x = _legend_text(draw, (x, y), "padding, not part of the image")
    if seen.left_out:
        draw.rectangle([x, y, x + 34, y + 22], fill=CARD)
        picture.paste(QUIET, (x, y, x + 35, y + 23), Image.new("L", (35, 23), VEIL))
        x = _legend_text(draw, (x, y), "left out: like its neighbours")
    draw.rounded_rectangle([x, y, x + 34, y + 22], radius=5, fill=INK)
    draw.text((x + 17, y + 11), "n", font=font(16), fill=CARD, anchor="mm")
    x = _legend_text(draw, (x, y), "place of the view in the prompt")
    if with_tokens:
        tint(picture, [(x, y, x + 35, y + 23)], CHOSEN)
        _legend_text(draw, (x, y), "marked token")


def _legend_text(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str) -> int:
    """Write beside a swatch; return the x of the next swatch."""
    draw.text((at[0] + 46, at[1] + 17), text, font=font(17), fill=INK, anchor="ls")
    return at[0] + 46 + round(draw.textlength(text, font=font(17))) + 36
