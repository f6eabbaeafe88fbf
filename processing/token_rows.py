# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Pad per-image integer lists into one `(I, N)` tensor."""

from typing import Any

import numpy as np

from .layout import PADDING


def token_rows(values: list[Any], kind: str | None, like: Any) -> Any:
    """Return one row of integers per image, padded with `PADDING`; without a tensor type, unpadded arrays."""
    arrays = [np.array(value, np.int64) for value in values]
    if kind is None:
        return [_like(array, like[0]) for array in arrays]
    length = max(len(array) for array in arrays)
    padded = np.full((len(arrays), length, *arrays[0].shape[1:]), PADDING, np.int64)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return _like(padded, like)


def _like(array: np.ndarray, like: Any) -> Any:
    """Convert `array` to the class of `like`; a numpy array stays one."""
    return array if isinstance(like, np.ndarray) else like.new_tensor(array)
