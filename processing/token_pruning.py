# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Pruning of image tokens: which tokens of an image get a placeholder, from its pixels or by a fixed count.

`{"type": "pixelprune"}` leaves out tokens whose cell of pixels is predicted exactly by its neighbours. A cell is what
one image token shows: equal squares of a view, row by row. With A the cell to the left, B the one above and C the one
above A, a cell is left out if it equals its prediction:

    first cell      is always kept
    first row       A
    first column    B
    elsewhere       B if C equals A and C differs from B, else A

Cells are compared in the pixels that the model gets. Where there is a high-res canvas, two cells are equal if the
view and the canvas both say so: the high-res tower may see a difference that the view is too coarse to show. Where a
cell's edges on the canvas lie between pixels, as those of most overviews do, two cells are equal there only if both
show one color and the same. Every view is compared within itself, and keeps its first cell. The encoder reads all
pixels (level a), so what is kept has the features that it has without pruning.

`image_token_index` then has a row for every token of the layout, in the order of the prompt: -4 - t stands for token t
that is left out, and has no placeholder. The model counts positions from these rows: a kept token and the text behind
keep the positions that they have without pruning.

`{"type": "visionzip", "dominant": n, "contextual": m}` gives every view `n + m` tokens, one more with `cls`; the model
chooses and merges them, so that its config needs the same `prune`.

Paper: arXiv:2604.00886 (PixelPrune). Code: OPPO-Mente-Lab/PixelPrune @ 0bf89f3, `pixelprune/methods/pred_2d.py`.
Paper: Yang et al., "VisionZip", arXiv:2412.04467.

Deviations from PixelPrune: tokens are left out behind the encoder, where the source leaves cells out before it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import isqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from .canvas import as_options
from .image_settings import square
from .layout import DROPPED, Geometry, Layout, Piece, token_indices

if TYPE_CHECKING:
    from .processing_fila import FilaProcessor

INSIDE_THE_MODEL = ("dart", "fastv")
ACCEPTED = {"pixelprune": ("level", "tau"), "visionzip": ("cls", "contextual", "dominant")}


def build_pruning(options: Mapping[str, Any] | str) -> dict[str, Any]:
    """Return the checked options of a pruning.

    Raises:
        ValueError: If the type, an option or a value is not accepted.

    Example:
        >>> build_pruning({"type": "pixelprune", "tau": 0})
        {'type': 'pixelprune'}
    """
    given = as_options(options)
    if not isinstance(given, Mapping):
        raise ValueError(f"`prune` must be a name or a dict such as {{'type': 'pixelprune'}}; got {options!r}.")
    chosen = dict(given)
    name = chosen.pop("type", None)
    if name in INSIDE_THE_MODEL:
        raise ValueError(
            f"`prune.type` {name!r} leaves tokens out inside the language model, which fila does not do. Use "
            f"{sorted(ACCEPTED)}."
        )
    if not isinstance(name, str) or name not in ACCEPTED:
        raise ValueError(f"`prune.type` must be one of {sorted(ACCEPTED)}; got {name!r}.")
    if unknown := sorted(set(chosen) - set(ACCEPTED[name])):
        raise ValueError(f"Pruning {name!r} has no option {unknown}; it accepts {list(ACCEPTED[name])}.")
    if name == "pixelprune":
        if chosen.get("level", "a") != "a":
            raise ValueError(
                f"`prune.level` must be 'a', which leaves placeholders out and encodes the whole image; got "
                f"{chosen['level']!r}. Level 'b', which leaves cells out before the encoder, is not supported."
            )
        if chosen.get("tau", 0) != 0:
            raise ValueError(f"`prune.tau` must be 0: cells are compared exactly; got {chosen['tau']!r}.")
        return {"type": name}
    made: dict[str, Any] = {"type": name, "dominant": chosen.get("dominant"), "contextual": chosen.get("contextual")}
    for option in ("dominant", "contextual"):
        if not isinstance(made[option], int) or isinstance(made[option], bool) or made[option] < 1:
            raise ValueError(f"`prune.{option}` must be a positive number of tokens; got {made[option]!r}.")
    made["cls"] = chosen.get("cls", True)
    if not isinstance(made["cls"], bool):
        raise ValueError(f"`prune.cls` must be true or false; got {made['cls']!r}.")
    return made


def set_up(processor: "FilaProcessor", options: dict[str, Any]) -> Layout:
    """Check that a processor can prune as the options say, and return the layout of its prompts.

    Raises:
        ValueError: If it cannot; the message says why.
    """
    name = options["type"]
    if name == "visionzip":
        if processor.video_processor is not None:
            raise ValueError(
                "`prune` 'visionzip' gives every view fewer tokens, and this processor takes videos, whose frames it "
                "does not prune. Use 'pixelprune', which leaves videos as they are, or a processor without videos."
            )
        if processor.image_processor is not None and not processor.image_processor.plans().equal_views:
            raise ValueError(
                f"`prune` 'visionzip' gives every view one number of tokens, and the views of the canvas "
                f"{processor.image_processor.canvas['type']!r} differ in size. Use 'pixelprune'."
            )
        # no rows are left that newline vectors could end
        return replace(processor._layout, row_newlines=False, unpad="no")
    if processor.token_size is None:
        side = isqrt(processor.tokens_per_tile)
        pixels = None if processor.image_processor is None else processor.image_processor.size["height"]
        if side * side != processor.tokens_per_tile or (pixels is not None and pixels % side):
            raise ValueError(
                f"`prune` 'pixelprune' needs one token for each cell of whole pixels; {processor.tokens_per_tile} "
                f"tokens form no such grid on a view of {pixels}x{pixels} pixels (a resampler's are queries, not "
                "cells). If the tokens lie on a grid, set the processor's `token_size`."
            )
    return processor._layout


def of_call(processor: "FilaProcessor", options: Mapping[str, Any] | str | None) -> dict[str, Any] | None:
    """Return the checked pruning of a single call.

    Raises:
        ValueError: If the call changes 'visionzip', which the model must do too.
    """
    made = None if options is None else build_pruning(options)
    if made == processor.prune:
        return made
    if "visionzip" in ((made or {}).get("type"), (processor.prune or {}).get("type")):
        raise ValueError(
            f"A call cannot turn 'visionzip' on or off, because the model chooses the tokens; got {made}, and the "
            f"processor has {processor.prune}. Pass `prune` to `from_pretrained` of the model and of the processor."
        )
    if made is not None:
        set_up(processor, made)
    return made


def tokens_per_view(options: Mapping[str, Any]) -> int:
    """Return the tokens that 'visionzip' gives every view."""
    return int(options["cls"] + options["dominant"] + options["contextual"])


def kept_cells(same_left: np.ndarray, same_above: np.ndarray) -> np.ndarray:
    """Return which cells of a grid are kept.

    Args:
        same_left: `(rows, cols - 1)` bool, whether a cell of the columns from the second on equals its left neighbour.
        same_above: `(rows - 1, cols)` bool, whether a cell of the rows from the second on equals the one above.

    Returns:
        `(rows, cols)` bool.

    Example:
        >>> grid = np.array([[0, 0, 1], [0, 0, 1]])
        >>> kept_cells(grid[:, 1:] == grid[:, :-1], grid[1:] == grid[:-1]).astype(int).tolist()
        [[1, 0, 1], [0, 0, 0]]
    """
    kept = np.ones((len(same_left), same_above.shape[1]), bool)
    kept[0, 1:] = ~same_left[0]
    kept[1:, 0] = ~same_above[:, 0]
    from_above = same_above[:, :-1] & ~same_left[:-1]  # C equals A and differs from B
    kept[1:, 1:] = ~np.where(from_above, same_above[:, 1:], same_left[1:])
    return kept


def same_cells(pixels: np.ndarray, grid: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Compare the neighbouring cells of a picture.

    Args:
        pixels: `(C, H, W)`; H and W are multiples of the grid.
        grid: (rows, cols) of cells.

    Returns:
        The two arrays of `kept_cells`.
    """
    (channels, height, width), (rows, cols) = pixels.shape, grid
    cells = pixels.reshape(channels, rows, height // rows, cols, width // cols)
    return (
        (cells[:, :, :, 1:] == cells[:, :, :, :-1]).all(axis=(0, 2, 4)),
        (cells[:, 1:] == cells[:, :-1]).all(axis=(0, 2, 4)),
    )


def same_on_canvas(
    canvas: np.ndarray, box: Sequence[int], grid: tuple[int, int], scale: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Compare the neighbouring cells of a view on the high-res canvas.

    Args:
        canvas: `(C, H, W)`, the high-res canvas.
        box: The view on the canvas, (top, left, bottom, right).
        grid: (rows, cols) of cells of the view.
        scale: Pixels of the high-res canvas for pixels of the canvas, (high, low).

    Returns:
        The two arrays of `kept_cells`.
    """
    spans = [
        _spans(box[axis], box[axis + 2], grid[axis], scale, canvas.shape[1 + axis]) for axis in (0, 1)
    ]  # of rows, of columns
    (top_steps, rows), (left_steps, cols) = spans
    if top_steps and left_steps:
        part = canvas[:, rows[0][0] : rows[-1][1], cols[0][0] : cols[-1][1]]
        return same_cells(part, grid)
    low, high = canvas, canvas
    for axis, own in ((1, rows), (2, cols)):
        low = np.stack([low.take(range(*span), axis=axis).min(axis=axis) for span in own], axis=axis)
        high = np.stack([high.take(range(*span), axis=axis).max(axis=axis) for span in own], axis=axis)
    one_color = (low == high).all(axis=0)
    left = one_color[:, 1:] & one_color[:, :-1] & (low[:, :, 1:] == low[:, :, :-1]).all(axis=0)
    above = one_color[1:] & one_color[:-1] & (low[:, 1:] == low[:, :-1]).all(axis=0)
    return left, above


def _spans(
    start: int, stop: int, count: int, scale: tuple[int, int], length: int
) -> tuple[bool, list[tuple[int, int]]]:
    """Return whether the cells of an axis are whole pixels, and the pixels that each shows at least in part."""
    high, low = scale
    unit = count * low
    edges = [(start * count + (stop - start) * number) * high for number in range(count + 1)]
    found = []
    for first, last in pairwise(edges):
        begin = min(first // unit, length - 1)
        found.append((begin, max(begin + 1, min(-(-last // unit), length))))
    return all(edge % unit == 0 for edge in edges) and edges[-1] <= length * unit, found


def prune_image(
    processor: "FilaProcessor",
    inputs: Mapping[str, Any],
    index: int,
    geometry: Geometry,
    pieces: Sequence[Piece],
    settings: Mapping[str, Any],
) -> tuple[list[Piece], list[int]]:
    """Leave out the tokens of an image whose cells the neighbours predict.

    Args:
        processor: The `FilaProcessor`.
        inputs: The image processor's outputs.
        index: Of the image in them.
        geometry: The image's.
        pieces: Its text and tokens without pruning, from `lay_out`.
        settings: Of the call of the image processor.

    Returns:
        The pieces with the tokens that are kept, and all tokens, with -4 - t for a token t that is left out.
    """
    pixels, boxes = inputs["pixel_values"][index], np.asarray(inputs["view_boxes"][index]).tolist()
    grids, canvas = None, None
    if "patch_grids" in inputs:
        grids = np.asarray(inputs["patch_grids"][index]).tolist()
    if "high_res_sizes" in inputs:
        height, width = np.asarray(inputs["high_res_sizes"][index]).tolist()
        canvas = _array(inputs["high_res_pixel_values"][index])[:, :height, :width]
        sides = (settings.get(name) or getattr(processor.image_processor, name) for name in ("high_res_size", "size"))
        high, low = (square(side, "size").height for side in sides)
    shown = set(token_indices(pieces))
    kept: set[int] = set()
    start = 0
    for view, count in enumerate(geometry.token_counts):
        places = [token - start for token in range(start, start + count) if token in shown]
        if places:
            drawn = _array(pixels[view])
            if grids is not None:
                drawn = _joined(drawn, grids[view])
            grid = _cells(processor, drawn.shape[1:])
            same = same_cells(drawn, grid)
            if canvas is not None:
                both = same_on_canvas(canvas, boxes[view], grid, (high, low))
                same = same[0] & both[0], same[1] & both[1]
            kept |= {start + place for place in _kept_of_view(same, grid, places)}
        start += count
    rows = [token if token < 0 or token in kept else DROPPED - token for token in token_indices(pieces)]
    left = [
        piece if isinstance(piece, str) else [token for token in piece if token < 0 or token in kept]
        for piece in pieces
    ]
    return [piece for piece in left if piece], rows


def _kept_of_view(same: tuple[np.ndarray, np.ndarray], grid: tuple[int, int], places: list[int]) -> list[int]:
    """Return the places in a view that are kept, of those that the layout shows: a rectangle of cells."""
    cols = grid[1]
    top, bottom = min(places) // cols, max(places) // cols + 1
    left, right = min(place % cols for place in places), max(place % cols for place in places) + 1
    kept = kept_cells(same[0][top:bottom, left : right - 1], same[1][top : bottom - 1, left:right])
    return [place for place in places if kept[place // cols - top, place % cols - left]]


def _cells(processor: "FilaProcessor", size: Sequence[int]) -> tuple[int, int]:
    """Return (rows, cols) of the cells of a view of (height, width) pixels."""
    if processor.token_size is None:
        side = isqrt(processor.tokens_per_tile)
        return side, side
    return size[0] // processor.token_size, size[1] // processor.token_size


def _array(pixels: Any) -> np.ndarray:
    return np.asarray(pixels.cpu() if hasattr(pixels, "cpu") else pixels)


def _joined(patches: np.ndarray, grid: Sequence[int]) -> np.ndarray:
    """Put patches that lie side by side, `(C, p, L * p)`, in their places: `(C, rows * p, cols * p)`."""
    (channels, patch, _), (rows, cols) = patches.shape, grid
    cut = patches[:, :, : rows * cols * patch].reshape(channels, patch, rows, cols * patch)
    return cut.transpose(0, 2, 1, 3).reshape(channels, rows * patch, cols * patch)


class TokenPruning:
    """The functions of this file that a processor calls."""

    build = staticmethod(build_pruning)
    of_call = staticmethod(of_call)
    prune = staticmethod(prune_image)
    set_up = staticmethod(set_up)
    tokens_per_view = staticmethod(tokens_per_view)
