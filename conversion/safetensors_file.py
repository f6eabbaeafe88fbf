# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""safetensors files read and written piece by piece, so that no tensor is ever held whole.

The format (https://huggingface.co/docs/safetensors): 8 bytes little-endian header length, a JSON header
`{key: {"dtype", "shape", "data_offsets": [begin, end]}}` with offsets counted from the header's end, then the raw
bytes. Files are read with plain reads, not mapped: mapped pages would count as resident memory.
"""

import json
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
PIECE_BYTES = 16 * 2**20
_MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies: `num_bytes` at `offset` (from the start) of `file`."""

    file: Path
    key: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int
    num_bytes: int

    def pieces(self, *, piece_bytes: int = PIECE_BYTES) -> Iterator[torch.Tensor]:
        """Yield the values in order as flat tensors of whole rows, at most `piece_bytes` each if a row allows."""
        row_bytes = max(self.num_bytes // self.shape[0], 1) if self.shape and self.shape[0] else self.dtype.itemsize
        step = max(piece_bytes // row_bytes, 1) * row_bytes
        with open(self.file, "rb", buffering=0) as file:
            file.seek(self.offset)
            remaining = self.num_bytes
            while remaining:
                buffer = bytearray(min(step, remaining))
                view, filled = memoryview(buffer), 0
                while filled < len(buffer):
                    count = file.readinto(view[filled:])
                    if not count:
                        raise ValueError(f"{self.file.name} ended inside tensor {self.key!r}; the file is truncated.")
                    filled += count
                remaining -= filled
                yield torch.frombuffer(buffer, dtype=self.dtype)

    def load(self) -> torch.Tensor:
        """Read the whole tensor; meant for small ones."""
        pieces = list(self.pieces())
        return (torch.cat(pieces) if pieces else torch.empty(0, dtype=self.dtype)).reshape(self.shape)


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Read and check the header of a safetensors file.

    Returns:
        Key to place, in file order.

    Raises:
        ValueError: If the file is truncated or its header contradicts itself; names the file and the key.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        prefix = file.read(8)
        if len(prefix) < 8:
            raise ValueError(f"{path.name} is not a safetensors file: it has {size} bytes.")
        (header_bytes,) = struct.unpack("<Q", prefix)
        if header_bytes > min(_MAX_HEADER_BYTES, size - 8):
            raise ValueError(
                f"{path.name} is not a safetensors file or is truncated: its header claims {header_bytes} bytes, the "
                f"file has {size}."
            )
        raw = file.read(header_bytes)
    try:
        header = json.loads(raw, object_pairs_hook=lambda pairs: _unique(pairs, path))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path.name} is not a safetensors file: its header is not JSON ({error}).") from error

    if not isinstance(header, dict):
        raise ValueError(
            f"{path.name} is not a safetensors file: its header must be a JSON object; it is a "
            f"{type(header).__name__}."
        )
    header.pop("__metadata__", None)
    start = 8 + header_bytes
    tensors = {key: _place(path, key, entry, start, size) for key, entry in header.items()}
    end = start
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.offset, tensor.num_bytes)):
        if tensor.offset != end:
            raise ValueError(f"{path.name}: tensor {tensor.key!r} overlaps another or leaves a gap before it.")
        end += tensor.num_bytes
    if end != size:
        raise ValueError(f"{path.name} must have {end} bytes by its header; it has {size}.")
    return tensors


def _unique(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for key, value in pairs:
        if key in entries:
            raise ValueError(f"{path.name} lists {key!r} twice in its header.")
        entries[key] = value
    return entries


def _place(path: Path, key: str, entry: Any, start: int, size: int) -> StoredTensor:
    try:
        dtype, shape, (begin, end) = DTYPES.get(entry["dtype"]), tuple(entry["shape"]), entry["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path.name}: the header entry of {key!r} is malformed.") from error
    if dtype is None:
        raise ValueError(f"{path.name}: tensor {key!r} has dtype {entry['dtype']}; known are {sorted(DTYPES)}.")
    integers = all(isinstance(number, int) and number >= 0 for number in (*shape, begin, end))
    if not integers or end - begin != math.prod(shape) * dtype.itemsize or start + end > size:
        raise ValueError(
            f"{path.name}: tensor {key!r} of shape {list(shape)} and dtype {entry['dtype']} does not fit its place "
            f"[{begin}, {end}) in a file of {size} bytes; the file is truncated or its header is wrong."
        )
    return StoredTensor(path, key, dtype, shape, start + begin, end - begin)


class TensorStream(Protocol):
    """A tensor that is produced piece by piece."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def pieces(self) -> Iterator[torch.Tensor]: ...


def write_file(
    path: Path,
    tensors: Sequence[tuple[str, TensorStream]],
    *,
    dtype: torch.dtype,
    on_bytes: Callable[[int], object] = lambda count: None,
) -> None:
    """Write a safetensors file piece by piece: header first, computed from the shapes, then the values.

    Args:
        path: The file to create.
        tensors: Key and values, in file order.
        dtype: Every tensor is cast to it.
        on_bytes: Called with the number of bytes after each write.

    Raises:
        ValueError: If a finite value does not fit `dtype`, or a stream does not keep its promised shape.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for key, tensor in tensors:
        begin, end = end, end + math.prod(tensor.shape) * dtype.itemsize
        header[key] = {"dtype": DTYPE_NAMES[dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        for key, tensor in tensors:
            written = 0
            for piece in tensor.pieces():
                values = cast(piece, dtype, key=key)
                file.write(values.reshape(-1).view(torch.uint8).numpy().data)
                written += values.nbytes
                on_bytes(values.nbytes)
            if written != math.prod(tensor.shape) * dtype.itemsize:
                raise ValueError(f"Tensor {key!r} promised shape {tuple(tensor.shape)} and gave {written} bytes.")


def cast(piece: torch.Tensor, dtype: torch.dtype, *, key: str) -> torch.Tensor:
    """Cast a piece; a finite value that `dtype` cannot hold is an error, not an infinity."""
    if piece.dtype == dtype:
        return piece
    values = piece.to(dtype)
    if torch.finfo(dtype).max < torch.finfo(piece.dtype).max and torch.isinf(values).sum() > torch.isinf(piece).sum():
        raise ValueError(f"Tensor {key!r} has values that {dtype} cannot hold; choose bfloat16 or float32.")
    return values
