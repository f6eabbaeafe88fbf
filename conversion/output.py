# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Atomic outputs: an output is complete or absent, and never overwrites an input.

A file or folder is written to a temporary folder next to the destination, `.NAME.PID-MARK.partial`, and renamed when
it is complete; until then the old output stays. The process holds a lock on a file in the temporary folder. The
operating system releases the lock when the process ends for any reason. So the next run with this output can
distinguish leftovers from work in progress, also when process ids are reused, in containers and on shared disks. On a
disk without locks, leftovers stay.
"""

import errno
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from huggingface_hub import constants
from safetensors import safe_open
from tqdm import tqdm  # type: ignore[import-untyped]

from .safetensors_file import TensorStream, write_file

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LOCK, _OLD = ".lock", ".replaced"

Input = str | Path | None


@contextmanager
def written_atomically(output: Path, *, overwrite: bool, inputs: Iterable[Input] = ()) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to `output` if the block succeeds and removed if it fails.

    Args:
        output: The folder.
        overwrite: Whether an existing checkpoint may be replaced.
        inputs: What the output is made of, as the caller was given it; what is no path is passed over.

    Raises:
        FileExistsError: If `output` exists and is not an empty folder, unless it is a checkpoint and `overwrite` is
            set.
        ValueError: If `output` is an input, holds one or lies in one, or is a mount point, which nothing can be
            renamed to.
    """
    output = _behind_link(output)
    if output.is_mount():
        raise ValueError(f"{output} is a mount point, which nothing can be renamed to. Name a folder inside it.")
    refuse_inputs(output, [*inputs, constants.HF_HUB_CACHE])
    _sweep(output)
    _check_free(output, overwrite)
    with _staged(output) as (partial, replaced):
        partial.mkdir()
        yield partial
        _check_free(output, overwrite)  # the block may have taken hours
        if output.is_dir() and any(output.iterdir()):
            output.rename(replaced)
        partial.replace(output)


@contextmanager
def written_file(output: Path, *, inputs: Iterable[Input] = ()) -> Iterator[Path]:
    """Yield a temporary path; the file written there is renamed to `output` if the block succeeds.

    Args:
        output: The file; an older one is replaced.
        inputs: What the output is made of, as the caller was given it; what is no path is passed over.

    Raises:
        ValueError: If `output` is an input, or neither a file nor a free name.
    """
    output = _behind_link(output)
    if output.exists() and not output.is_file():
        raise ValueError(f"The output must be a file or a free name; {output} is neither.")
    refuse_inputs(output, inputs, is_new_file=not output.exists())
    _sweep(output)
    with _staged(output) as (partial, _):
        yield partial
        partial.replace(output)


def refuse_inputs(output: Path, inputs: Iterable[Input], *, is_new_file: bool = False) -> None:
    """Reject an output that is, contains or is inside an input; a new file in an input's folder is allowed.

    Paths are compared after they are resolved, so links, case and `..` make no difference. Links in an input's folder
    are followed too.

    Raises:
        ValueError: If the output is such a path; names output and input.
    """
    for given in inputs:
        for path in _files_of(given):
            relation = ""
            if _is_same(output, path):
                relation = "is"
            elif any(_is_same(output, parent) for parent in path.parents):
                relation = "holds"
            elif (
                path.is_dir()
                and not is_new_file
                and any(_is_same(parent, path) for parent in output.absolute().parents)
            ):
                relation = "lies in"
            if relation:
                raise ValueError(
                    f"An output must not be an input, hold one or lie in one; {output} {relation} {given}. Choose "
                    "another output."
                )


def _files_of(given: Input) -> list[Path]:
    """Return the resolved paths of an input and of the links in its folder; none if it is not a path (a Hub id)."""
    try:
        path = Path(given or "").expanduser()
        if not given or not path.exists():
            return []
        links = [entry for entry in path.iterdir() if entry.is_symlink()] if path.is_dir() else []
        return [path.resolve(), *(link.resolve() for link in links)]
    except (OSError, ValueError, RuntimeError):  # too long for a path, or an unknown `~user`
        return []


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _behind_link(output: Path) -> Path:
    return output.resolve() if output.name in ("", "..") or output.is_symlink() else output


def _check_free(output: Path, overwrite: bool) -> None:
    occupied = output.is_file() or (output.is_dir() and any(output.iterdir()))
    if occupied and not overwrite:
        raise FileExistsError(f"{output} exists. Choose another output, or pass `overwrite` to replace it.")
    if occupied and not (output / "config.json").is_file():
        raise FileExistsError(
            f"{output} must be a checkpoint to be replaced; it has no config.json. Choose another output, or remove "
            "it yourself."
        )


def _sweep(output: Path) -> None:
    """Remove the temporary folders of this output that killed processes left."""
    leftover = re.compile(rf"\.{re.escape(output.name)}\.\d+-[0-9a-f]+\.partial")
    for path in output.parent.iterdir() if output.parent.is_dir() else ():
        if leftover.fullmatch(path.name) and (path / _LOCK).is_file() and (lock := _locked(path / _LOCK)):
            with lock:
                _discard(path, output)


@contextmanager
def _staged(output: Path) -> Iterator[tuple[Path, Path]]:
    """Yield two free paths on the disk of `output`: one for the new output, one for the old output."""
    output.parent.mkdir(parents=True, exist_ok=True)
    staging = output.with_name(f".{output.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    staging.mkdir()
    lock = None
    try:
        if lock := _locked(staging / f"{_LOCK}.new"):
            (staging / f"{_LOCK}.new").rename(staging / _LOCK)  # visible only once it is locked
        yield staging / output.name, staging / _OLD
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise OSError(error.errno, f"{os.strerror(error.errno)}; what was there stays", str(output)) from error
    finally:
        _discard(staging, output)
        if lock:
            lock.close()


def _locked(path: Path) -> IO[bytes] | None:
    """Open a file and lock it until it is closed; return None if it is locked or the disk has no locks."""
    if fcntl is None:
        return None
    try:
        file = open(path, "ab")  # noqa: SIM115  (the caller closes it)
    except OSError:  # another user's
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def _discard(staging: Path, output: Path) -> None:
    """Remove the temporary folder; restore the old output if the new one is not in place."""
    if (staging / _OLD).exists() and (staging / output.name).exists():
        if output.exists():
            return  # another process; keep both folders
        (staging / _OLD).rename(output)
    shutil.rmtree(staging, ignore_errors=True)


def write_weights(
    folder: Path, tensors: Mapping[str, TensorStream], *, dtype: torch.dtype, shard_bytes: int, progress: bool
) -> None:
    """Write `model.safetensors`, or shards of at most `shard_bytes` (a larger tensor gets its own) and their index.

    Raises:
        RuntimeError: If the safetensors library does not read back from a file what was written to it.
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
    """Return the bytes of a size such as `"5GB"`.

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
