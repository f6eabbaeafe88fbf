# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""HTML report of an image under every canvas strategy: a table, pictures, and the pixels of each token.

The page is one file: pictures are data URIs, style and script lie inside, and its content security policy forbids to
load anything. The script looks boxes up and computes none: the rows and columns of every view's tokens on the image
come from `token_boxes.py`, their places in the prompt from the processor's layout.
"""

import base64
import html
import io
import json
from collections.abc import Sequence
from importlib.resources import files
from string import Template
from typing import Any

from PIL import Image

from fila.look.contact_sheet import Compared
from fila.look.drawing import cross
from fila.look.processed_image import Seen
from fila.look.token_strip import prompt_told, sum_told
from fila.processing.canvas_plan import Box
from fila.processing.token_boxes import TokenPlace

# Longest sides, in pixels, at which pictures are stored; the page draws them at any size.
SOURCE_SIDE, CANVAS_SIDE, OVERVIEW_SIDE = 1000, 800, 400
QUALITY = 80
HATCH = (
    '<pattern id="hatch" width="10" height="10" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<path d="M0 0V10" stroke="#9aa5ae" stroke-width="3"/></pattern>'
)


def make_report(compared: Sequence[Compared], *, title: str, subtitle: str = "") -> str:
    """Return the HTML page.

    Args:
        compared: The image under several strategies, as `look_with_all` gives them.
        title: Name of the image.
        subtitle: Whose patches and tokens these are.

    Returns:
        HTML.

    Raises:
        ValueError: If no strategy goes with the image.
    """
    template = Template((files("fila") / "assets" / "report.html").read_text(encoding="utf-8"))
    drawn = [(each.name, each.seen) for each in compared if each.seen is not None]
    if not drawn:
        raise ValueError(compared[0].reason)
    image, (height, width) = drawn[0][1].image, drawn[0][1].source_size
    about = f"{height} x {width} pixels, height x width; {subtitle}" if subtitle else f"{height} x {width} pixels"
    data = [_data(*pair) for pair in drawn]
    return template.substitute(
        title=html.escape(title),
        subtitle=html.escape(about),
        source=_svg("source", (height, width), image, SOURCE_SIDE, [], label="the image"),
        rows="\n".join(_row(each) for each in compared),
        sections="\n".join(_section(*pair) for pair in drawn),
        data=json.dumps(data).replace("<", "\\u003c"),
    )


def _row(each: Compared) -> str:
    """Return a row of the table."""
    seen = each.seen
    if seen is None:
        return f'<tr><td>{each.name}</td><td colspan="6">{html.escape(each.reason)}</td></tr>'
    share = f'{seen.real_share:.0%}<span class="bar"><i style="width: {seen.real_share:.1%}"></i></span>'
    overview = cross(seen.plan.overview_size) if seen.plan.overview_size else "none"
    sizes = [cross(seen.plan.tile_grid), cross(seen.plan.canvas_size), overview, str(seen.plan.num_views)]
    cells = [f'<a href="#{each.name}">{each.name}</a>', *sizes, f"{seen.num_tokens:,}", share]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _section(name: str, seen: Seen) -> str:
    """Return the pictures of one strategy."""
    plan, figures = seen.plan, []
    canvas = Image.new("RGB", plan.canvas_size[::-1])
    for view, box in zip(seen.views[seen.first_tile :], plan.tile_boxes, strict=True):
        canvas.paste(view, (box.left, box.top))
    shapes = [_padding(plan.content_box, plan.canvas_size)]
    shapes += [_rect(box, "tile") for box in plan.tile_boxes]
    pictures = [("canvas", plan.canvas_size, canvas, CANVAS_SIDE, shapes)]
    if plan.overview_size is not None and plan.content_in_overview is not None:
        whole = Box(0, 0, *plan.overview_size)
        shapes = [_padding(plan.content_in_overview, plan.overview_size), _rect(whole, "overview")]
        pictures.append(("overview", plan.overview_size, seen.views[0], OVERVIEW_SIDE, shapes))
    for kind, size, picture, side, own in pictures:
        svg = _svg(f"{name}-{kind}", size, picture, side, own, label=f"{kind} of {name}")
        style = f"flex: {size[1]} 1 0; max-width: {size[1]}px"  # canvas and overview to one scale
        figures.append(f'<figure style="{style}">{svg}<figcaption>{kind}</figcaption></figure>')
    told = f"{sum_told(seen)} image tokens; {seen.real_share:.0%} of the encoded pixels show the image"
    prompt = prompt_told(seen)
    prompt = prompt if len(prompt) < 400 else f"{prompt[:280]} ... {prompt[-100:]}"
    facts = "".join(f'<p class="facts">{html.escape(line)}</p>' for line in (told, f"In the prompt: {prompt}"))
    return f'<section id="{name}"><h2>{name}</h2>{facts}<div class="views">{"".join(figures)}</div></section>'


def _svg(name: str, size: Sequence[int], picture: Image.Image, side: int, shapes: list[str], *, label: str) -> str:
    """Return an SVG of (height, width) units, with shapes on it."""
    height, width = size
    shrink = min(1.0, side / max(picture.size))
    small = picture.resize(
        (max(1, round(picture.width * shrink)), max(1, round(picture.height * shrink))), Image.Resampling.LANCZOS
    )
    data = io.BytesIO()
    small.save(data, format="JPEG", quality=QUALITY, optimize=True)
    encoded = base64.b64encode(data.getvalue()).decode("ascii")
    defined = HATCH.replace('id="hatch"', f'id="{name}-hatch"') if any("hatch" in shape for shape in shapes) else ""
    drawn = "".join(shapes).replace("#hatch", f"#{name}-hatch")
    return (
        f'<svg id="{name}" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{defined}'
        f'<image width="{width}" height="{height}" preserveAspectRatio="none" '
        f'href="data:image/jpeg;base64,{encoded}"/>{drawn}</svg>'
    )


def _rect(box: Box, kind: str) -> str:
    height, width = box.size
    return f'<rect class="{kind}" x="{box.left}" y="{box.top}" width="{width}" height="{height}"/>'


def _padding(content: Box, size: Sequence[int]) -> str:
    """Return hatched shapes around the content; none if there is no padding."""
    height, width = size
    if tuple(content) == (0, 0, height, width):
        return ""
    inner = f"M{content.left} {content.top}H{content.right}V{content.bottom}H{content.left}Z"
    return f'<path class="hatch" fill="url(#hatch)" fill-rule="evenodd" d="M0 0H{width}V{height}H0Z{inner}"/>'


def _data(name: str, seen: Seen) -> dict[str, Any]:
    """Return the script's lookup data for one strategy."""
    views = []
    for number, grid in enumerate(seen.token_grids):
        box = Box(0, 0, *seen.plan.view_sizes[0]) if number < seen.first_tile else seen.plan.view_boxes[number]
        rows, cols = grid or (1, 1)
        views.append(
            {
                "svg": f"{name}-{'overview' if number < seen.first_tile else 'canvas'}",
                "name": seen.view_name(number),
                "box": box,
                "grid": grid,
                "start": seen.starts[number],
                "count": seen.token_counts[number],
                "rows": [_span(seen, number, row=row) for row in range(rows)],
                "cols": [_span(seen, number, col=col) for col in range(cols)],
            }
        )
    return {"name": name, "tokens": seen.num_tokens, "views": views, "runs": _runs(seen.tokens)}


def _span(seen: Seen, view: int, *, row: int | None = None, col: int | None = None) -> tuple[int, int] | None:
    """Return the image pixels that a row or a column of a view's tokens shows; None for padding.

    Rows and columns are apart from each other, so what a whole row shows has the top and bottom of each of its tokens.
    """
    rows, cols = seen.token_grids[view] or (1, 1)
    if row is not None:
        box = seen.box_of(TokenPlace(view, row, 0), (rows, 1))
        return None if box is None else (box.top, box.bottom)
    assert col is not None
    box = seen.box_of(TokenPlace(view, 0, col), (1, cols))
    return None if box is None else (box.left, box.right)


def _runs(tokens: Sequence[int]) -> list[list[int]]:
    """Return stretches of consecutive tokens: [token of the views, place in the prompt, length].

    Example:
        >>> _runs([0, 1, 2, 5, 6, -1, 7])
        [[0, 0, 3], [5, 3, 2], [7, 6, 1]]
    """
    runs: list[list[int]] = []
    for place, token in enumerate(tokens):
        if token < 0:  # a learned vector, which is no view's
            continue
        if runs and token == runs[-1][0] + runs[-1][2] and place == runs[-1][1] + runs[-1][2]:
            runs[-1][2] += 1
        else:
            runs.append([token, place, 1])
    return runs
