# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fila.conversion.safetensors_file import cast, read_header, write_file
from fila.conversion.streams import NewTensor

STATE = {
    "a.weight": torch.randn(7, 5),
    "b": torch.randn(3, 2, 2).to(torch.bfloat16),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 4),
    "ids": torch.arange(11),
}


def _raw(path: Path, header: dict[str, Any] | bytes, data: bytes) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_read_header_finds_what_safetensors_wrote(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "x.safetensors")
    found = read_header(tmp_path / "x.safetensors")
    assert set(found) == set(STATE)
    for key, tensor in STATE.items():
        assert torch.equal(found[key].load(), tensor)
        assert found[key].load().dtype == tensor.dtype


@pytest.mark.parametrize("piece_bytes", [1, 50, 10**6])
def test_pieces_are_whole_rows_in_order(tmp_path: Path, piece_bytes: int) -> None:
    save_file(STATE, tmp_path / "x.safetensors")
    pieces = list(read_header(tmp_path / "x.safetensors")["a.weight"].pieces(piece_bytes=piece_bytes))
    assert torch.equal(torch.cat(pieces), STATE["a.weight"].flatten())
    assert all(len(piece) % 5 == 0 for piece in pieces)
    assert all(len(piece) == 5 or 4 * len(piece) <= piece_bytes for piece in pieces)


def test_write_file_is_read_by_safetensors(tmp_path: Path) -> None:
    values = {key: tensor for key, tensor in STATE.items() if tensor.is_floating_point()}
    counted: list[int] = []
    path = tmp_path / "x.safetensors"
    write_file(path, [(k, NewTensor(v)) for k, v in values.items()], dtype=torch.bfloat16, on_bytes=counted.append)
    loaded = load_file(path)
    assert set(loaded) == set(values)
    assert all(torch.equal(loaded[key], tensor.to(torch.bfloat16)) for key, tensor in values.items())
    assert sum(counted) == 2 * sum(tensor.numel() for tensor in values.values())
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_write_file_rejects_a_broken_promise(tmp_path: Path) -> None:
    class Short:
        shape = (3,)

        def pieces(self) -> Any:
            yield torch.zeros(2)

    with pytest.raises(ValueError, match=r"'x' promised shape \(3,\) and gave 8 bytes"):
        write_file(tmp_path / "x.safetensors", [("x", Short())], dtype=torch.float32)


def test_cast_rejects_overflow() -> None:
    with pytest.raises(ValueError, match=r"'w' has values that torch\.float16 cannot hold"):
        cast(torch.tensor([1.0, 1e6]), torch.float16, key="w")


def test_cast_keeps_an_infinity_that_was_there() -> None:
    assert torch.isinf(cast(torch.tensor([float("inf")]), torch.float16, key="w")).all()


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ({"w": ENTRY}, b"1234567"),
        ({"w": ENTRY}, b"123456789"),
        ({"w": {**ENTRY, "shape": [3]}}, b"12345678"),
        ({"w": {**ENTRY, "shape": [-2]}}, b"12345678"),
        ({"w": {**ENTRY, "dtype": "F3"}}, b"12345678"),
        ({"w": {"dtype": "F32"}}, b""),
        ({"v": ENTRY, "w": ENTRY}, b"12345678"),
        ({"w": {**ENTRY, "data_offsets": [4, 12]}}, b"1" * 12),
        (b'{"w": 1, "w": 2}', b""),
        (b"{w", b""),
        (b"[]", b""),
    ],
)
def test_read_header_rejects_contradictions(tmp_path: Path, header: dict[str, Any] | bytes, data: bytes) -> None:
    with pytest.raises(ValueError, match=r"x\.safetensors is not a safetensors file or is truncated"):
        read_header(_raw(tmp_path / "x.safetensors", header, data))


def test_read_header_names_an_unknown_dtype(tmp_path: Path) -> None:
    header = {"w": {"dtype": "U16", "shape": [4], "data_offsets": [0, 8]}}
    with pytest.raises(ValueError, match=r"x\.safetensors: tensor 'w' has dtype U16; known are \['BF16', "):
        read_header(_raw(tmp_path / "x.safetensors", header, b"12345678"))


@pytest.mark.parametrize("data", [b"", b"1234", struct.pack("<Q", 10**12), struct.pack("<Q", 99) + b"{}"])
def test_read_header_rejects_what_is_no_safetensors_file(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match=r"x\.safetensors is not a safetensors file"):
        read_header(tmp_path / "x.safetensors")


def test_pieces_rejects_a_file_that_shrank(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"w": torch.zeros(9)}, path)
    tensor = read_header(path)["w"]
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"x\.safetensors is not a safetensors file or is truncated"):
        list(tensor.pieces())
