# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Table of features that only some processors have; a checkpoint carries the entries that its settings need."""

from typing import Any

from .image_packing import pack_images
from .token_budget import TokenBudget
from .token_map import TokenMap
from .token_pruning import TokenPruning
from .video_inputs import VideoInputs

FEATURES: dict[str, Any] = {
    "budget": TokenBudget,
    "packed_images": pack_images,
    "pruning": TokenPruning,
    "token_map": TokenMap,
    "videos": VideoInputs,
}


def feature(name: str) -> Any:
    """Return the entry of `FEATURES` with a name.

    Raises:
        ValueError: If the checkpoint's code was saved without it.
    """
    if name not in FEATURES:
        raise ValueError(
            f"The code beside this checkpoint has no {name!r}, because the processor that was saved with it did not "
            f"use it; it has {sorted(FEATURES)}. Install the `fila` package, import it, and load the checkpoint again."
        )
    return FEATURES[name]
