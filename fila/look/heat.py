# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The hottest parts of a heat-map, and its picture."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from fila.look.drawing import CARD, CHOSEN, GREY, INK, RULE, SHEET, fit, font
from fila.processing.canvas_plan import Box

if TYPE_CHECKING:
    from fila.look.explain import Explanation

Floats = npt.NDArray[np.floating[Any]]
HOT = 0.5  # of the largest value: what belongs to a part
COARSE = 256  # cells per side in which parts are found
SIDE, MARGIN, HEADER, LEGEND, LEAST = 1008, 36, 116, 62, 560


def hot_boxes(heat: Floats, count: int) -> list[tuple[Box, float]]:
    """Return the parts of a heat-map, `(H, W)`, with most heat, and their shares of it.

    A part begins at the hottest pixel that is left, and holds all neighbours of at least half as much heat. Large
    maps are read in cells of several pixels, each as hot as its hottest.

    Args:
        heat: Not negative.
        count: At most so many.
    """
    total, step = float(heat.sum()), -(-max(heat.shape) // COARSE)
    padded = np.pad(heat, [(0, -side % step) for side in heat.shape])
    cells = padded.reshape(padded.shape[0] // step, step, -1, step).max(axis=(1, 3))
    found: list[tuple[Box, float]] = []
    while len(found) < count and (peak := float(cells.max())) > 0:
        start = np.unravel_index(int(cells.argmax()), cells.shape)
        part = _part(cells, (int(start[0]), int(start[1])), HOT * peak)
        rows, cols = zip(*part, strict=True)
        top, left = min(rows) * step, min(cols) * step
        bottom, right = min((max(rows) + 1) * step, heat.shape[0]), min((max(cols) + 1) * step, heat.shape[1])
        hot = heat[top:bottom, left:right] >= HOT * peak  # to the pixel
        ys, xs = np.flatnonzero(hot.any(axis=1)), np.flatnonzero(hot.any(axis=0))
        box = Box(top + int(ys[0]), left + int(xs[0]), top + int(ys[-1]) + 1, left + int(xs[-1]) + 1)
        found.append((box, float(heat[box.top : box.bottom, box.left : box.right].sum()) / total))
        cells[list(rows), list(cols)] = 0
    return found


def _part(cells: Floats, start: tuple[int, int], least: float) -> list[tuple[int, int]]:
    """Return the cells that neighbours of at least `least` lead to, from a start on."""
    part, waiting = {start}, [start]
    while waiting:
        row, col = waiting.pop()
        for place in ((row - 1, col), (row + 1, col), (row, col - 1), (row, col + 1)):
            inside = 0 <= place[0] < cells.shape[0] and 0 <= place[1] < cells.shape[1]
            if inside and place not in part and cells[place] >= least:
                part.add(place)
                waiting.append(place)
    return sorted(part)


def draw_heat(explanation: "Explanation", title: str) -> Image.Image:
    """Draw an image under the heat of an answer, with the hottest part outlined."""
    image, heat = explanation.image, explanation.heat
    scale = SIDE / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    picture = Image.new("RGB", (max(width, LEAST) + 2 * MARGIN, HEADER + height + LEGEND), SHEET)
    draw, room = ImageDraw.Draw(picture), picture.size[0] - 2 * MARGIN
    draw.text((MARGIN, 44), fit(draw, explanation.question, 20, room), font=font(20), fill=GREY, anchor="ls")
    draw.text((MARGIN, 84), fit(draw, explanation.answer, 28, room * 0.75), font=font(28), fill=INK, anchor="ls")
    note = f"{title}, {explanation.method}" if title else explanation.method
    draw.text((picture.size[0] - MARGIN, 84), fit(draw, note, 15, room * 0.24), font=font(15), fill=GREY, anchor="rs")
    grey = Image.blend(image.convert("L").convert("RGB"), Image.new("RGB", image.size, CARD), 0.25)
    strength = np.sqrt(heat / (heat.max() or 1))  # the eye sees weak heat too
    veil = Image.fromarray((strength * 190).astype(np.uint8), "L")
    grey.paste(CHOSEN, (0, 0), veil)
    picture.paste(grey.resize((width, height), Image.Resampling.BICUBIC), (MARGIN, HEADER))
    draw.rectangle([MARGIN - 1, HEADER - 1, MARGIN + width, HEADER + height], outline=RULE)
    for found in explanation.boxes(1):
        top, left, bottom, right = (round(edge * scale) for edge in found.box)
        for by, colour in ((3, CARD), (1, INK)):  # one of them is seen on dark pages, the other on light ones
            edges = (MARGIN + left - by, HEADER + top - by, MARGIN + right + by - 1, HEADER + bottom + by - 1)
            draw.rectangle(edges, outline=colour, width=2)
    y = HEADER + height + 20
    ramp = Image.fromarray((np.sqrt(np.linspace(0, 1, 160))[None].repeat(18, axis=0) * 190).astype(np.uint8), "L")
    picture.paste(CARD, (MARGIN, y, MARGIN + 160, y + 18))
    picture.paste(CHOSEN, (MARGIN, y), ramp)
    draw.text((MARGIN + 172, y + 15), "heat, from none to the most", font=font(15), fill=GREY, anchor="ls")
    return picture
