# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Reads the weights of an ONNX file: its initialisers, and which of them each matrix product uses.

ONNX files are protobuf messages (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). Only five fields are needed,
so the wire format (https://protobuf.dev/programming-guides/encoding) is read here: a message is a run of (tag, value)
pairs, where the tag holds the field number and whether the value is a varint, 8 bytes, a length-prefixed run, or 4
bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

_GRAPH = 7  # ModelProto.graph
_NODE, _INITIALIZER = 1, 5  # GraphProto
_NODE_INPUT, _NODE_NAME, _NODE_TYPE = 1, 3, 4  # NodeProto
_DIMS, _DATA_TYPE, _TENSOR_NAME, _RAW_DATA = 1, 2, 8, 9  # TensorProto
_FLOAT = 1  # TensorProto.DataType


@dataclass(frozen=True)
class OnnxWeights:
    """Float initialisers by name, and for each named MatMul node the names of its inputs."""

    tensors: dict[str, torch.Tensor]
    matmuls: dict[str, tuple[str, ...]]


def read_onnx(path: Path) -> OnnxWeights:
    """Read an ONNX file whose weights are stored inside it as raw float32.

    Raises:
        ValueError: If the file is not such a file.
    """
    data = memoryview(path.read_bytes())
    tensors: dict[str, torch.Tensor] = {}
    matmuls: dict[str, tuple[str, ...]] = {}
    try:
        for number, value in _fields(data):
            if number == _GRAPH and isinstance(value, memoryview):
                _read_graph(value, tensors, matmuls)
    except (IndexError, UnicodeDecodeError, RuntimeError) as error:
        raise ValueError(f"{path.name} is not an ONNX file, or is truncated.") from error
    if not tensors:
        raise ValueError(
            f"{path.name} holds no float32 weights; it is not an ONNX file, or keeps them in another file."
        )
    return OnnxWeights(tensors, matmuls)


def _read_graph(graph: memoryview, tensors: dict[str, torch.Tensor], matmuls: dict[str, tuple[str, ...]]) -> None:
    for number, value in _fields(graph):
        if not isinstance(value, memoryview):
            continue
        if number == _INITIALIZER:
            fields = list(_fields(value))
            raw = next((field for at, field in fields if at == _RAW_DATA), None)
            if (_DATA_TYPE, _FLOAT) in fields and isinstance(raw, memoryview):
                name = next(_text(field) for at, field in fields if at == _TENSOR_NAME)
                shape = [field for at, field in fields if at == _DIMS and isinstance(field, int)]
                tensors[name] = torch.frombuffer(bytearray(raw), dtype=torch.float32).reshape(shape)
        elif number == _NODE:
            texts = [(at, _text(field)) for at, field in _fields(value) if at <= _NODE_TYPE]
            if (_NODE_TYPE, "MatMul") in texts:
                name = next(text for at, text in texts if at == _NODE_NAME)
                matmuls[name] = tuple(text for at, text in texts if at == _NODE_INPUT)


def _fields(message: memoryview) -> Iterator[tuple[int, "int | memoryview"]]:
    """Yield (field number, value): varints as int, everything else as bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind not in (1, 2, 5):
            raise RuntimeError(f"unknown wire type {kind}")
        length = {1: 8, 5: 4}.get(kind, 0)
        if kind == 2:
            length, at = _varint(message, at)
        if at + length > len(message):
            raise IndexError("a field ends behind its message")
        yield number, message[at : at + length]
        at += length


def _text(value: "int | memoryview") -> str:
    return bytes(value).decode() if isinstance(value, memoryview) else ""


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
