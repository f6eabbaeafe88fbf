# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""CanvasPlan + pixels -> overview, canvas, tiles and high-res canvas; the only resize, pad and crop of the project.

Works on `(C, H, W)` numpy arrays and torch tensors alike; the function that resizes comes from the caller's backend.
Every picture is resized in one step from the image as it came, never from a resized one. Padding has the gray levels
that the plan gives, black for most.

The high-res canvas is the canvas drawn at another scale: an edge at `x` pixels lies at `x * high / low` there, rounded
half up, for `high` pixels of the high-res canvas per `low` pixels of the canvas. A content box keeps at least 1 pixel.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from .canvas_plan import Box, CanvasPlan, Size, scaled_edge, scaled_span


class Pixels(Protocol):
    """A numpy array or a torch tensor, `(C, H, W)`."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> object: ...

    def __getitem__(self, place: tuple[slice, ...], /) -> "Pixels": ...


Resize = Callable[[Any, Size], Any]


def render_overview(image: Pixels, plan: CanvasPlan, resize: Resize) -> Pixels | None:
    """Draw the overview at its size; None if the plan has no overview."""
    if plan.overview_size is None or plan.content_in_overview is None:
        return None
    return _draw(image, plan, plan.overview_size, plan.content_in_overview, resize)


def render_canvas(image: Pixels, plan: CanvasPlan, resize: Resize) -> Pixels:
    """Draw the canvas `(C, *plan.canvas_size)` with the image in its content box."""
    return _draw(image, plan, plan.canvas_size, plan.content_box, resize)


def render_high_res(image: Pixels, plan: CanvasPlan, resize: Resize, *, low: Size, high: Size) -> Pixels:
    """Draw the canvas at `high / low` of its size.

    Args:
        image: `(C, H, W)`.
        plan: Its plan.
        resize: Function of the backend.
        low: Pixels of the canvas ...
        high: ... that become this many pixels of the high-res canvas.
    """
    size, box = scale_geometry(plan, low=low, high=high)
    return _draw(image, plan, size, box, resize)


def scale_geometry(plan: CanvasPlan, *, low: Size, high: Size) -> tuple[Size, Box]:
    """Return size and content box of the canvas drawn at `high / low` of its size.

    Example:
        >>> plan = CanvasPlan(Size(5, 7), Size(14, 14), Box(3, 0, 11, 14), (1, 1), (Box(0, 0, 14, 14),))
        >>> scale_geometry(plan, low=Size(14, 14), high=Size(32, 32))
        (Size(height=32, width=32), Box(top=7, left=0, bottom=25, right=32))
    """
    size = Size(*(max(1, scaled_edge(*edge)) for edge in zip(plan.canvas_size, low, high, strict=True)))
    top, bottom = scaled_span(plan.content_box.top, plan.content_box.bottom, low.height, high.height, size.height)
    left, right = scaled_span(plan.content_box.left, plan.content_box.right, low.width, high.width, size.width)
    return size, Box(top, left, bottom, right)


def cut(canvas: Pixels, boxes: tuple[Box, ...]) -> list[Any]:
    """Cut the boxes out of a canvas `(C, H, W)`."""
    return [canvas[:, box.top : box.bottom, box.left : box.right] for box in boxes]


def content_mask(plan: CanvasPlan) -> np.ndarray:
    """Return the mask of the canvas, `plan.canvas_size` bool: true on the image, false on padding."""
    mask = np.zeros(plan.canvas_size, bool)
    box = plan.content_box
    mask[box.top : box.bottom, box.left : box.right] = True
    return mask


def content_arrays(plan: CanvasPlan, patch_size: int | None) -> dict[str, np.ndarray]:
    """Return the arrays that map coordinates of an image's views to the image.

    Args:
        plan: Of the image.
        patch_size: Pixels of a patch where the views' patches lie side by side, None where views are square.

    Returns:
        `content_mask`, bool: `(V, h, w)`, or `(V, p, L * p)` with `patch_size`, where each view shows the image.
        `content_boxes`, int64: `(4,)`, the part of the canvas that the image covers. `image_scales`, float64: `(2,)`,
        image pixels per canvas pixel, along the height and along the width.
    """
    masks = cut(content_mask(plan)[None], plan.tile_boxes)
    if plan.overview_size is not None and plan.content_in_overview is not None:
        overview, box = np.zeros((1, *plan.overview_size), bool), plan.content_in_overview
        overview[:, box.top : box.bottom, box.left : box.right] = True
        masks.insert(0, overview)
    if patch_size is not None:
        masks = [side_by_side(mask, patch_size) for mask in masks]
    mask = np.zeros((len(masks), masks[0].shape[1], max(mask.shape[2] for mask in masks)), bool)
    for row, own in zip(mask, masks, strict=True):
        row[:, : own.shape[2]] = own[0]
    content = plan.content_box.size
    scales = [whole / drawn for whole, drawn in zip(plan.image_size, content, strict=True)]
    return {
        "content_mask": mask,
        "content_boxes": np.array(plan.content_box, np.int64),
        "image_scales": np.array(scales, np.float64),
    }


def side_by_side(view: Any, patch_size: int) -> Any:
    """Put the patches of a view side by side, row-major: `(C, h, w)` becomes `(C, p, h / p * w)`.

    A convolution of size and stride p over the result gives the patches in order. Views of any shape then differ in
    length alone, so that a tall and a wide one need no padding to a square.

    Raises:
        ValueError: If a side is not a multiple of the patch.

    Source: MiniCPM-V 2.6 `image_processing_minicpmv.py::reshape_by_patch`.
    """
    channels, height, width = view.shape
    if height % patch_size or width % patch_size:
        raise ValueError(f"A view must be whole {patch_size}-pixel patches; got {height}x{width} pixels.")
    rows = view.reshape(channels, height // patch_size, patch_size, width)
    rows = rows.transpose(0, 2, 1, 3) if isinstance(view, np.ndarray) else rows.permute(0, 2, 1, 3)
    return rows.reshape(channels, patch_size, -1)


def _draw(image: Pixels, plan: CanvasPlan, size: Size, box: Box, resize: Resize) -> Pixels:
    if plan.padded_size is not None:
        top, left = ((outer - inner) // 2 for outer, inner in zip(plan.padded_size, image.shape[-2:], strict=True))
        padded = _filled(image, plan.padded_size, plan.fill)
        padded[:, top : top + image.shape[-2], left : left + image.shape[-1]] = image
        return resize(padded, size)
    content = resize(image, box.size)
    if box.size == size:
        return content
    canvas = _filled(content, size, plan.fill)
    canvas[:, box.top : box.bottom, box.left : box.right] = content
    return canvas


def _filled(like: Any, size: Size, fill: tuple[int, int, int]) -> Any:
    channels = like.shape[0]
    # Floats come when nothing is rescaled, which is for images that are in 0..1 already.
    white = 255 if "float" in str(like.dtype) else 1
    levels = [level / white if white > 1 else level for level in (*fill, 0)[:channels]]
    if isinstance(like, np.ndarray):
        # In memory as PIL's pixels, which are copied onto it: (height, width, channels).
        rows = np.empty((size.height, size.width * channels), like.dtype)
        rows[...] = np.tile(np.array(levels, like.dtype), size.width)
        return rows.reshape(size.height, size.width, channels).transpose(2, 0, 1)
    canvas = like.new_zeros((channels, *size))
    for plane, level in zip(canvas, levels if any(fill) else (), strict=False):
        plane[...] = level
    return canvas
