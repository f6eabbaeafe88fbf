# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""A config that asks for more layers than its files have tensors, refused before anything is built.

A layer without weights on disk is not an error for transformers: it gets memory and random numbers, layer by layer.
"""

import json
import os
from typing import cast

from .configuration_fila import check_layers

MAX_HEADER_BYTES = 100_000_000  # of a safetensors file, as in the library
FEW_LAYERS = 100  # cost little, so files that hold a part of the weights open


def check_stored_layers(folder: str | os.PathLike[str] | None) -> None:
    """Raise a `ValueError` if the config in a folder names many more layers than its safetensors files hold tensors.

    A Hub id passes, and so does a folder without such files: what cannot be read here, transformers refuses itself.
    """
    try:
        folder = cast(str, folder)  # None ends as a TypeError below
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        count = _num_tensors(folder)
    except (OSError, TypeError, ValueError, AttributeError, KeyError):
        return
    check_layers("config.json", config, max(count, FEW_LAYERS), f"the files beside it hold {count} tensors")


def _num_tensors(folder: str | os.PathLike[str]) -> int:
    index = os.path.join(folder, "model.safetensors.index.json")
    if os.path.isfile(index):
        with open(index, encoding="utf-8") as file:
            return len(json.load(file)["weight_map"])
    with open(os.path.join(folder, "model.safetensors"), "rb") as weights:
        length = int.from_bytes(weights.read(8), "little")
        return len(json.loads(weights.read(min(length, MAX_HEADER_BYTES))).keys() - {"__metadata__"})
