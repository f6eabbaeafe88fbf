# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Recorded numbers of the original systems: where they lie, how they are read, how ours are compared with them.

A check reads one file and yields `(case, ours, recorded)`. Every size and option comes from the tensors and the
metadata, so that further files of the same naming, in the folder that the environment variable FILA_GOLDEN names, are
checked by the same functions.
"""

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from tests.goldens import FOLDER, further_folder, read_json, read_tensors

__all__ = ["FOLDER", "golden_files", "read", "read_json"]

Comparison = tuple[str, torch.Tensor, torch.Tensor]
Check = Callable[[Path], Iterator[Comparison]]


@dataclass(frozen=True)
class Golden:
    """The tensors and the metadata of one file."""

    tensors: dict[str, torch.Tensor]
    metadata: dict[str, str]

    def __getitem__(self, key: str) -> torch.Tensor:
        return self.tensors[key]

    def __contains__(self, key: str) -> bool:
        return key in self.tensors

    def cases(self, suffix: str) -> list[str]:
        """Prefixes of the keys that end in `suffix`: `a.x` and `b.x` give `a.` and `b.`, `x` gives an empty one."""
        return [key.removesuffix(suffix) for key in self.tensors if key.endswith(suffix) and not key.startswith("sd.")]

    def state(self, prefix: str = "") -> dict[str, torch.Tensor]:
        """The original weights whose key begins with `prefix`, without it."""
        start = f"sd.{prefix}"
        return {key.removeprefix(start): self.tensors[key] for key in self.tensors if key.startswith(start)}


def read(path: Path) -> Golden:
    """Open a safetensors file."""
    metadata, tensors = read_tensors(path)
    return Golden(tensors, metadata)


def golden_files(pattern: str) -> list[Path]:
    """Our copies of the recorded files, then those of the folder FILA_GOLDEN."""
    found = sorted(FOLDER.glob(pattern))
    if folder := further_folder():
        found += sorted(folder.glob(pattern))
    return found


def text_width(width: int) -> Any:
    """The part of a config that a connector reads."""
    return SimpleNamespace(text_config=SimpleNamespace(hidden_size=width))


def load(module: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Give a module its weights: all of them and no others."""
    module.load_state_dict(weights)
    module.eval()


def relative_error(ours: torch.Tensor, recorded: torch.Tensor) -> float:
    """Largest difference as a share of the largest recorded value; integers must be equal.

    Infinite, and never NaN, which a comparison of errors would pass over, where either side is not a number.
    """
    assert ours.shape == recorded.shape, f"shapes differ: {tuple(ours.shape)} and {tuple(recorded.shape)}"
    if not recorded.is_floating_point():
        same = not ours.is_floating_point() and torch.equal(ours.long(), recorded.long())
        return 0.0 if same else float("inf")
    if torch.equal(ours.double(), recorded.double()):  # all of it may be zero
        return 0.0
    difference = (ours.double() - recorded.double()).abs().max()
    error = float(difference / recorded.double().abs().max())
    return error if math.isfinite(error) else float("inf")


def filled(key: str, shape: Sequence[int], std: float, mean: float = 0.0) -> torch.Tensor:
    """The values that the recordings of VAR derive from a name: uniform, of this deviation and mean.

    Element i = 1.. of key k: splitmix64's finaliser of i * 0x9E3779B97F4A7C15 + crc32(k) * 0xD1342543DE82EF95, its
    upper 24 bits as u in 0..1, then (u - 0.5) * 2 sqrt(3) * std + mean.
    """
    start = zlib.crc32(key.encode()) * 0xD1342543DE82EF95 % 2**64
    with np.errstate(over="ignore"):
        x = np.arange(1, math.prod(shape) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(start)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
            x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    u = (x >> np.uint64(40)).astype(np.float64) / 2**24
    return torch.from_numpy((u - 0.5) * 2 * np.sqrt(3) * std + mean).float().reshape(tuple(shape))
