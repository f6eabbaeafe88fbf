# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Writes the small part of the ONNX format that the reader reads."""

from collections.abc import Mapping

import torch


def encode_onnx(tensors: Mapping[str, torch.Tensor], matmuls: Mapping[str, tuple[str, ...]]) -> bytes:
    """An ONNX model with float32 initialisers, and MatMul nodes given by name and inputs."""
    graph = b"".join(
        _run(1, b"".join(_run(1, text.encode()) for text in inputs) + _run(3, name.encode()) + _run(4, b"MatMul"))
        for name, inputs in matmuls.items()
    )
    graph += _run(1, _run(3, b"/other") + _run(4, b"Add"))
    for name, tensor in tensors.items():
        dims = b"".join(_varint(1 << 3) + _varint(side) for side in tensor.shape)
        raw = tensor.float().contiguous().numpy().tobytes()
        graph += _run(5, dims + _varint(2 << 3) + b"\x01" + _run(8, name.encode()) + _run(9, raw))
    return b"\x08\x07" + _run(2, b"pytorch") + _run(7, graph)


def _run(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])
