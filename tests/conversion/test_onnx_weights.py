# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
from pathlib import Path

import pytest
import torch

from fila.conversion.onnx_weights import read_onnx
from tests.conversion.onnx_file import encode_onnx

TENSORS = {"a": torch.randn(3, 5), "onnx::MatMul_1": torch.randn(200, 2)}


def test_read_onnx_finds_weights_and_products(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(encode_onnx(TENSORS, {"/layer/MatMul": ("input", "onnx::MatMul_1")}))
    weights = read_onnx(path)
    assert set(weights.tensors) == set(TENSORS)
    assert all(torch.equal(weights.tensors[name], tensor) for name, tensor in TENSORS.items())
    assert weights.matmuls == {"/layer/MatMul": ("input", "onnx::MatMul_1")}


@pytest.mark.parametrize("end", [3, 50, 1000])
def test_read_onnx_rejects_a_truncated_file(tmp_path: Path, end: int) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(encode_onnx(TENSORS, {})[:end])
    with pytest.raises(ValueError, match=r"x\.onnx is not an ONNX file, or is truncated"):
        read_onnx(path)


@pytest.mark.parametrize("data", [b"", b"\x08\x07"])
def test_read_onnx_rejects_a_file_without_weights(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.onnx").write_bytes(data)
    with pytest.raises(ValueError, match=r"x\.onnx holds no float32 weights"):
        read_onnx(tmp_path / "x.onnx")
