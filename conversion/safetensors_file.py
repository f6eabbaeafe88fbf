# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Reading and writing of safetensors files piece by piece, so that no whole tensor is in memory.

The format (https://huggingface.co/docs/safetensors): 8 bytes little-endian header length, a JSON header
`{key: {"dtype", "shape", "data_offsets": [begin, end]}}` with offsets counted from the header's end, then the raw
bytes.
"""

import json
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open

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


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a file that has not been read yet."""

    file: Path
    key: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Number of bytes of its values."""
        return math.prod(self.shape) * self.dtype.itemsize

    def pieces(self, *, piece_bytes: int = PIECE_BYTES) -> Iterator[torch.Tensor]:
        """Yield the values in order as flat tensors of whole rows, at most `piece_bytes` each if a row allows.

        The file is reopened for each piece, because pages that were read stay resident while it is mapped.
        """
        if not self.shape:
            with opened(self.file) as file:
                yield file.get_tensor(self.key).reshape(-1)
            return
        row_bytes = max(math.prod(self.shape[1:]) * self.dtype.itemsize, 1)
        rows = max(piece_bytes // row_bytes, 1)
        for start in range(0, self.shape[0], rows):
            with opened(self.file) as file:
                piece = file.get_slice(self.key)[start : start + rows].reshape(-1)
            yield piece

    def load(self) -> torch.Tensor:
        """Read the whole tensor; use this for small tensors only."""
        pieces = list(self.pieces())
        return (torch.cat(pieces) if pieces else torch.empty(0, dtype=self.dtype)).reshape(self.shape)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file; the library checks its header.

    Raises:
        ValueError: If the file is damaged; names it.
    """
    try:
        with safe_open(path, "pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(f"{path.name} is not a safetensors file or is truncated: {error}.") from error


def read_header(path: Path) -> dict[str, StoredTensor]:
    """List the tensors of a safetensors file.

    Raises:
        ValueError: If the file is damaged or a dtype is unknown; names the file and the key.
    """
    tensors = {}
    with opened(path) as file:
        for key in file.keys():  # noqa: SIM118
            stored = file.get_slice(key)
            dtype = DTYPES.get(stored.get_dtype())
            if dtype is None:
                raise ValueError(
                    f"{path.name}: tensor {key!r} has dtype {stored.get_dtype()}; known are {sorted(DTYPES)}."
                )
            tensors[key] = StoredTensor(path, key, dtype, tuple(stored.get_shape()))
    return tensors


class TensorStream(Protocol):
    """Protocol of a tensor that is produced piece by piece."""

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
        dtype: dtype of all written tensors.
        on_bytes: Function that is called with the number of written bytes after each write.

    Raises:
        ValueError: If a finite value does not fit `dtype`, or a stream's values do not have its declared shape.
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
    """Cast a piece; raise an error if a finite value would become infinite in `dtype`."""
    if piece.dtype == dtype:
        return piece
    values = piece.to(dtype)
    if torch.finfo(dtype).max < torch.finfo(piece.dtype).max and torch.isinf(values).sum() > torch.isinf(piece).sum():
        raise ValueError(f"Tensor {key!r} has values that {dtype} cannot hold; choose bfloat16 or float32.")
    return values
