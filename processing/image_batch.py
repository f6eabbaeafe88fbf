# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Draw the images of a batch into memory: each value is written once, into the array that is returned.

A batch is one array, padded with zeros, or a list with one array per image.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image
from transformers.image_utils import PILImageResampling
from transformers.utils import is_torch_available

from .canvas_plan import CanvasPlan, Size
from .image_drawing import level_table
from .image_render import (
    Resize,
    content_arrays,
    cut,
    render_canvas,
    render_high_res,
    render_overview,
    scale_geometry,
    side_by_side,
)
from .image_settings import NORMALIZE_KWARGS, canvas_of, hashable, square

if is_torch_available():
    import torch

PIXELS = {"pixel_values", "high_res_pixel_values"}


def views_shape(plan: CanvasPlan, channels: int, patch_size: int | None) -> tuple[int, ...]:
    """Return the shape of all views of an image; with a patch size, patches are side by side.

    Returns:
        (views, channels, height, width), or (views, channels, patch, patches of the longest view x patch).
    """
    if patch_size is None:
        return (plan.num_views, channels, *plan.view_sizes[0])
    longest = max(size.height * size.width for size in plan.view_sizes)
    return (plan.num_views, channels, patch_size, longest // patch_size)


def allocated(
    allocate: Callable[..., Any], shapes: Sequence[tuple[int, ...]], like: Any, *, stacked: bool, whole: bool = True
) -> tuple[list[Any], Any]:
    """Allocate one array per shape.

    Args:
        allocate: Function that allocates memory of a shape, zeroed or not, on the device of `like`.
        shapes: Shapes with the same number of axes.
        like: An image of the batch.
        stacked: Whether the arrays are parts of one array, of the largest of each side, padded with zeros.
        whole: Whether the caller will write each array completely; otherwise the memory is zeroed.

    Returns:
        One array per shape, and their list or the one array.
    """
    if not stacked:
        arrays = [allocate(tuple(shape), like, zeros=not whole) for shape in shapes]
        return arrays, arrays
    largest = tuple(max(sides) for sides in zip(*shapes, strict=True))
    zeros = not whole or any(tuple(shape) != largest for shape in shapes)
    together = allocate((len(shapes), *largest), like, zeros=zeros)
    return [row[tuple(slice(side) for side in shape)] for row, shape in zip(together, shapes, strict=True)], together


def draw_batch(
    images: list[Any],
    drawing: Any,
    resize_array: Resize,
    normalize_array: Callable[[Any, Any, Any], Any],
    kwargs: dict[str, Any],
    *,
    stacked: bool,
) -> dict[str, Any]:
    """Plan and draw the images of a batch.

    Args:
        images: PIL images (tensors in `fast` mode) for the drawing, or `(C, H, W)` arrays that the backend resizes.
        drawing: A drawing of `DRAWINGS`.
        resize_array: Function that resizes such arrays: `(array, size) -> array`; takes another `resample` too.
        normalize_array: Function that rescales and normalises them: `(array, mean, std) -> floats`.
        kwargs: Settings of the call.
        stacked: Whether each entry can be one array.

    Returns:
        The tensors that `image_processing_fila.py` lists: pixels in one array or, unless `stacked`, one per image, and
        lists with one numpy array per image.
    """
    if not images:
        return {}
    tile, high_res_size = square(kwargs["size"], "size"), kwargs["high_res_size"]
    canvas = canvas_of(kwargs["canvas"], tile)
    patch_size = None if canvas.equal_views else canvas.patch_size  # type: ignore[attr-defined]
    sizes = [drawing.size(image) if drawing.is_source(image) else Size(*image.shape[-2:]) for image in images]
    plans = [canvas(*size) for size in sizes]
    data: dict[str, Any] = _plan_arrays(plans, patch_size)
    if kwargs.get("return_image_sizes"):
        data["image_sizes"] = [np.array(size) for size in sizes]
    if kwargs.get("return_content"):
        contents = [content_arrays(plan, patch_size) for plan in plans]
        data |= {name: [content[name] for content in contents] for name in contents[0]}
    channels = [3 if drawing.is_source(image) else len(image) for image in images]
    shapes = [views_shape(plan, depth, patch_size) for plan, depth in zip(plans, channels, strict=True)]
    whole = patch_size is None or all(plan.num_views == 1 for plan in plans)  # views of one image differ in length
    views, all_views = allocated(drawing.allocate, shapes, images[0], stacked=stacked, whole=whole)
    data = {"pixel_values": all_views, **data}
    high, canvases = None, [None] * len(images)
    if high_res_size is not None:
        high = Size(**high_res_size)
        scaled = [scale_geometry(plan, low=tile, high=high)[0] for plan in plans]
        shapes = [(depth, *size) for depth, size in zip(channels, scaled, strict=True)]
        canvases, data["high_res_pixel_values"] = allocated(drawing.allocate, shapes, images[0], stacked=stacked)
        data["high_res_sizes"] = [np.array(size) for size in scaled]
    for image, plan, place, canvas_place in zip(images, plans, views, canvases, strict=True):
        resize, write = (
            _source_steps(drawing, kwargs)
            if drawing.is_source(image)
            else _array_steps(resize_array, normalize_array, kwargs)
        )
        if plan.drawn_size is not None:
            image = resize(image, plan.drawn_size)
        if plan.filter is not None:
            resize = _other_resize(plan.filter, drawing, resize_array, kwargs, is_drawn=resize == drawing.resize)
        if plan.padded_size is not None and isinstance(image, Image.Image):
            image = np.asarray(image).transpose(2, 0, 1)
        draw_views(image, plan, resize, functools.partial(write, tower="image"), place, patch_size)
        if high is not None:
            write(render_high_res(image, plan, resize, low=tile, high=high), canvas_place, tower="high_res_image")
    return {name: evened(value) if stacked and name not in PIXELS else value for name, value in data.items()}


def _plan_arrays(plans: Sequence[CanvasPlan], patch_size: int | None) -> dict[str, list[np.ndarray]]:
    """Return the integers of the plans, one array per image."""
    arrays = {
        "view_boxes": [np.array(plan.view_boxes) for plan in plans],
        "tile_grid": [np.array(plan.tile_grid) for plan in plans],
    }
    if patch_size is not None:
        arrays["patch_grids"] = [np.array(plan.view_sizes) // patch_size for plan in plans]
    return arrays


def _source_steps(drawing: Any, kwargs: dict[str, Any]) -> tuple[Resize, Callable[..., None]]:
    """Return the functions that resize a source of the drawing and write its gray levels for a tower."""
    options = [kwargs.get(name) for name in NORMALIZE_KWARGS]

    def write(levels: Any, place: Any, tower: str) -> None:
        mean, std = (hashable(kwargs[f"{tower}_{name}"]) for name in ("mean", "std"))
        drawing.write(levels, place, level_table(*options, mean, std))

    return drawing.resize, write


def _other_resize(
    name: str, drawing: Any, resize_array: Callable[..., Any], kwargs: dict[str, Any], *, is_drawn: bool
) -> Resize:
    """Return a function that resizes as the drawing or the backend does, with another filter."""
    resample: Any = getattr(PILImageResampling, name.upper())
    if is_drawn:
        other: Resize = type(drawing)(resample, kwargs.get("device")).resize
        return other
    return functools.partial(resize_array, resample=resample)


def _array_steps(
    resize: Resize, normalize: Callable[[Any, Any, Any], Any], kwargs: dict[str, Any]
) -> tuple[Resize, Callable[..., None]]:
    """Return the functions that resize an array and write its floats for a tower."""

    def write(pixels: Any, place: Any, tower: str) -> None:
        values = normalize(pixels, kwargs[f"{tower}_mean"], kwargs[f"{tower}_std"])
        place[...] = np.asarray(values) if isinstance(place, np.ndarray) else torch.as_tensor(values)

    return resize, write


def draw_views(
    image: Any,
    plan: CanvasPlan,
    resize: Resize,
    write: Callable[[Any, Any], None],
    views: Any,
    patch_size: int | None,
) -> None:
    """Draw the views of an image into `views`.

    Args:
        image: Input of `resize`.
        plan: The image's plan.
        resize: Function of the drawing that resizes.
        write: Function that writes a view `(C, h, w)` into its memory.
        views: Floats of shape `views_shape(...)`.
        patch_size: Pixels of the patches to put side by side; None keeps views as images.
    """
    drawn = cut(render_canvas(image, plan, resize), plan.tile_boxes)
    overview = render_overview(image, plan, resize)
    if overview is not None:
        drawn.insert(0, overview)
    for view, place in zip(drawn, views, strict=True):
        if patch_size is None:
            write(view, place)
        else:
            patches = side_by_side(view, patch_size)
            write(patches, place[..., : patches.shape[-1]])


def evened(arrays: Sequence[Any]) -> list[Any]:
    """Pad arrays or tensors with zeros to the largest of each side."""
    shape = tuple(max(sides) for sides in zip(*(array.shape for array in arrays), strict=True))
    return [_up_to(array, shape) for array in arrays]


def _up_to(array: Any, shape: tuple[int, ...]) -> Any:
    if tuple(array.shape) == shape:
        return array
    larger = np.zeros(shape, array.dtype) if isinstance(array, np.ndarray) else array.new_zeros(shape)
    larger[tuple(slice(side) for side in array.shape)] = array
    return larger
