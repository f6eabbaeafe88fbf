# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Table of the modes in which image processors draw."""

from typing import Any

from .image_drawing import ExactDrawing
from .image_drawing_fast import FastDrawing

DRAWINGS: dict[str, Any] = {
    "exact": ExactDrawing,
    "fast": FastDrawing,
}


def check_mode(mode: object) -> None:
    """Check that a mode exists; raise a `ValueError` otherwise."""
    if not isinstance(mode, str) or mode not in DRAWINGS:
        raise ValueError(f"`mode` must be one of {sorted(DRAWINGS)}; got {mode!r}.")
