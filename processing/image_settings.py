# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Settings of the image processors: their forms, and those that decide pixels."""

import functools
import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np
from transformers.image_processing_utils import get_size_dict
from transformers.image_utils import SizeDict

from .canvas import Canvas, as_options, build_canvas, deciding_options
from .canvas_plan import Size
from .image_drawing import pil_filter
from .image_fingerprint import VERSION, as_json

NORMALIZE_KWARGS = ("do_rescale", "rescale_factor", "do_normalize")
MEANS = ("image_mean", "image_std", "high_res_image_mean", "high_res_image_std")


def settings_of_pixels(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a call that decide pixels, with defaults, as plain JSON."""
    high_res_size = given["high_res_size"]
    settings = {
        "version": VERSION,
        "canvas": deciding_options(as_options(given["canvas"])),
        "size": square(given["size"], "size").height,
        "high_res_size": None if high_res_size is None else square(high_res_size, "high_res_size").height,
        "resample": int(pil_filter(given["resample"])),
    }
    plain = ("mode", "do_convert_rgb", *NORMALIZE_KWARGS, *MEANS)
    return as_json(settings | {name: hashable(given[name]) for name in plain})


def square(size: int | Iterable[int] | dict[str, int] | SizeDict | None, name: str) -> Size:
    """Return height and width of a tile setting, which must be square as both towers' position grids."""
    given = dict(size) if isinstance(size, SizeDict) else get_size_dict(size, param_name=name)
    height, width = given.get("height"), given.get("width")
    if not (height and height == width and height > 0):
        raise ValueError(f"`{name}` must have equal, positive 'height' and 'width' (tiles are square); got {given}.")
    return Size(height, width)


def hashable(value: object) -> object:
    """Return a mean or a standard deviation as a number or a tuple."""
    return tuple(value) if isinstance(value, list | np.ndarray) else value


def canvas_of(options: Mapping[str, Any] | str | None, tile_size: Size) -> Canvas:
    """Return the canvas strategy of an option dict; strategies with JSON options are built once."""
    try:
        return _cached_canvas(json.dumps(options), tile_size)
    except TypeError:
        return build_canvas(cast("Mapping[str, Any]", options), tile_size)


@functools.lru_cache(maxsize=64)
def _cached_canvas(options: str, tile_size: Size) -> Canvas:
    return build_canvas(json.loads(options), tile_size)
