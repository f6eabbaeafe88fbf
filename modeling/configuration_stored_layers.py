# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Reject a config with more layers than its files hold tensors before anything is built.

transformers accepts layers without weights on disk: it allocates each one and fills it with random numbers.
"""

import json
import os
from typing import cast

from .configuration_fila import check_layers

MAX_HEADER_BYTES = 100_000_000  # limit of a safetensors header, as in the library
FEW_LAYERS = 100  # layers up to this number cost little, so files with a part of the weights still open


def check_stored_layers(folder: str | os.PathLike[str] | None) -> None:
    """Reject a folder whose config has many more layers than its safetensors files hold tensors; raise `ValueError`.

    A Hub id passes, and so does a folder without such files; transformers itself rejects files that cannot be read.
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
