# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Finds recorded numbers: `tests/golden`, and every further file of the same naming in the folder `FILA_GOLDEN`."""

import json
import os
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file

FOLDER = Path(__file__).parent / "golden"


def further_folder() -> Path | None:
    """The folder that `FILA_GOLDEN` names, if it is set.

    Raises:
        NotADirectoryError: If it is no folder: tests that find nothing further in it would pass.
    """
    named = os.environ.get("FILA_GOLDEN")
    if not named:
        return None
    if not Path(named).is_dir():
        raise NotADirectoryError(f"FILA_GOLDEN must name a folder of recorded numbers; got {named!r}.")
    return Path(named)


def golden_files(name: str) -> list[Path]:
    """`name` of `tests/golden`, then every file of `FILA_GOLDEN` whose name begins and ends alike.

    Example:
        `internvl_tiling.json` finds `internvl_tiling_896.json` too.
    """
    found = [FOLDER / name]
    if folder := further_folder():
        stem, _, suffix = name.rpartition(".")
        found += sorted(folder.glob(f"{stem}*.{suffix}"))
    return found


def rows_of(name: str) -> list[Any]:
    """The JSON content of every file of that name."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in golden_files(name)]


def tensors_of(name: str) -> list[tuple[dict[str, str], dict[str, Any]]]:
    """Metadata and tensors of every safetensors file of that name."""
    found = []
    for path in golden_files(name):
        with safe_open(path, "pt") as opened:
            found.append((opened.metadata() or {}, load_file(path)))
    return found
