# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Finds recorded numbers: `tests/golden`, and every further file of the same naming in the folder `FILA_GOLDEN`.

What is read is noted: where all tests of recorded numbers run, `tests/conftest.py` fails the run for a file of
`FILA_GOLDEN` that none of them read.
"""

import fnmatch
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

FOLDER = Path(__file__).parent / "golden"
# Files that nothing checks: those of systems that we do not support, and an index of other files.
NOT_SUPPORTED = ("deepseek_ocr2_*", "uhd_initial_*", "video_var_digests.json")
# How tests of recorded numbers are selected.
SELECTION = "golden or parity"
WEIGHTS = ("sd.", "sd/")

_read: set[Path] = set()


class Tensors(dict[str, torch.Tensor]):
    """The tensors of a file, which is noted as read once one of them is taken that is no weight.

    Args:
        path: The file.
        values: Its tensors.
    """

    def __init__(self, path: Path, values: dict[str, torch.Tensor]) -> None:
        super().__init__(values)
        self._path = path

    def __getitem__(self, key: str) -> torch.Tensor:
        found = super().__getitem__(key)
        if not key.startswith(WEIGHTS):
            note_read(self._path)
        return found

    def get(self, key: str, default: Any = None) -> Any:
        try:
            return self[key]
        except KeyError:
            return default

    def items(self) -> Iterator[tuple[str, torch.Tensor]]:  # type: ignore[override]
        return ((key, self[key]) for key in self)

    def values(self) -> Iterator[torch.Tensor]:  # type: ignore[override]
        return (self[key] for key in self)


def note_read(path: Path) -> None:
    """Note that a test reads a file."""
    _read.add(path.resolve())


def files_read() -> list[str]:
    """The files that were read in this process."""
    return sorted(map(str, _read))


def unread_files(read: Iterable[str], folder: Path) -> list[str]:
    """Names of the files of a folder of recorded numbers that were not read, without those that we do not support."""
    known = set(read)
    return [
        path.name
        for path in sorted(folder.iterdir())
        if path.suffix in (".json", ".safetensors")
        and str(path.resolve()) not in known
        and not any(fnmatch.fnmatch(path.name, pattern) for pattern in NOT_SUPPORTED)
    ]


def test_files_of_goldens(tests: Path) -> set[Path]:
    """The test files that read recorded numbers."""
    reads = re.compile(r"^from tests\.(goldens|parity)", re.MULTILINE)
    return {path for path in tests.rglob("test_*.py") if reads.search(path.read_text(encoding="utf-8"))}


def is_golden(nodeid: str) -> bool:
    """Whether `-k "golden or parity"` selects a test."""
    return any(word in nodeid.lower() for word in SELECTION.split(" or "))


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


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    note_read(path)
    return json.loads(path.read_text(encoding="utf-8"))


def read_tensors(path: Path) -> tuple[dict[str, str], Tensors]:
    """Metadata and tensors of a safetensors file."""
    with safe_open(path, "pt") as opened:
        names = opened.keys()
        return opened.metadata() or {}, Tensors(path, {key: opened.get_tensor(key) for key in names})


def rows_of(name: str) -> list[Any]:
    """The JSON content of every file of that name."""
    return [read_json(path) for path in golden_files(name)]


def tensors_of(name: str) -> list[tuple[dict[str, str], Tensors]]:
    """Metadata and tensors of every safetensors file of that name."""
    return [read_tensors(path) for path in golden_files(name)]


def numbers_in(tensors: Iterable[str], pattern: str) -> list[int]:
    r"""The numbers of the cases of a file, whatever they begin with: those that a pattern's group finds in its keys.

    Example:
        `(\d+)\.features` finds 3 and 4 among `3.features`, `4.features` and `4.packed`.
    """
    found = {int(match[1]) for match in map(re.compile(pattern).fullmatch, tensors) if match}
    assert found, f"no key is like {pattern!r}"
    return sorted(found)
