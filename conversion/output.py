# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The output folder: written beside its destination and renamed when complete; weights in one file or in shards."""

import json
import math
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from tqdm import tqdm  # type: ignore[import-untyped]

from .safetensors_file import TensorStream, write_file

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@contextmanager
def written_atomically(output: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a folder beside `output` that becomes it if the block succeeds and vanishes if not.

    Raises:
        FileExistsError: If `output` exists and is not an empty folder, unless `overwrite` is set.
        ValueError: If `output` is a mount point, which nothing can be renamed to.
    """
    if output.name in ("", "..") or output.is_symlink():
        output = output.resolve()
    if output.is_mount():
        raise ValueError(f"{output} is a mount point, which nothing can be renamed to. Name a folder inside it.")
    occupied = output.is_file() or (output.is_dir() and any(output.iterdir()))
    if occupied and not overwrite:
        raise FileExistsError(f"{output} exists. Choose another output, or pass `overwrite` to replace it.")
    output.parent.mkdir(parents=True, exist_ok=True)
    mark = secrets.token_hex(4)
    partial, replaced = (output.with_name(f".{output.name}.{mark}.{state}") for state in ("partial", "replaced"))
    partial.mkdir()
    try:
        yield partial
        if occupied:
            output.rename(replaced)
        try:
            partial.replace(output)
        except OSError:
            if occupied:
                replaced.rename(output)
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    if replaced.is_dir():
        shutil.rmtree(replaced)
    elif replaced.exists():
        replaced.unlink()


def write_weights(
    folder: Path, tensors: Mapping[str, TensorStream], *, dtype: torch.dtype, shard_bytes: int, progress: bool
) -> None:
    """Write `model.safetensors`, or shards of at most `shard_bytes` (a larger tensor gets its own) and their index.

    Raises:
        RuntimeError: If the safetensors library does not find in a file what was written to it.
    """
    sizes = {key: math.prod(stream.shape) * dtype.itemsize for key, stream in tensors.items()}
    shards: list[list[tuple[str, TensorStream]]] = [[]]
    filled = 0
    for key, stream in tensors.items():
        if shards[-1] and filled + sizes[key] > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append((key, stream))
        filled += sizes[key]
    total = sum(sizes.values())
    names = ["model.safetensors"]
    if len(shards) > 1:
        names = [f"model-{index:05d}-of-{len(shards):05d}.safetensors" for index in range(1, len(shards) + 1)]
        weight_map = {key: name for name, shard in zip(names, shards, strict=True) for key, _ in shard}
        metadata = {"total_size": total, "total_parameters": total // dtype.itemsize}
        write_json(folder / "model.safetensors.index.json", {"metadata": metadata, "weight_map": weight_map})
    with tqdm(total=total, unit="B", unit_scale=True, desc="writing weights", disable=not progress) as bar:
        for name, shard in zip(names, shards, strict=True):
            write_file(folder / name, shard, dtype=dtype, on_bytes=bar.update)
            with safe_open(folder / name, "pt") as file:
                if set(file.keys()) != {key for key, _ in shard}:
                    raise RuntimeError(f"{name} does not hold what was written to it.")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON object as transformers does: sorted and indented."""
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def parse_size(size: int | str) -> int:
    """Bytes of a size such as `"5GB"`.

    Raises:
        ValueError: If it is not a positive size.

    Example:
        >>> parse_size("5GB"), parse_size("2 MiB"), parse_size(7)
        (5000000000, 2097152, 7)
    """
    match = re.fullmatch(r"(\d+)\s*([A-Z]*)", str(size).strip().upper())
    if match is None or match[2] not in _UNITS or int(match[1]) < 1:
        raise ValueError(f"`max_shard_size` must be a number of bytes or a size such as '5GB'; got {size!r}.")
    return int(match[1]) * _UNITS[match[2]]
