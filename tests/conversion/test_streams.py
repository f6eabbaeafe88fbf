# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
from pathlib import Path

import torch
from safetensors.torch import save_file

from fila.conversion.safetensors_file import StoredTensor, read_header
from fila.conversion.streams import ExtendedTensor, NewTensor, TransformedTensor


def _stored(tmp_path: Path, tensor: torch.Tensor) -> StoredTensor:
    save_file({"w": tensor}, tmp_path / "x.safetensors")
    return read_header(tmp_path / "x.safetensors")["w"]


def test_extended_tensor_appends_rows_near_the_mean_that_differ(tmp_path: Path) -> None:
    tensor = torch.randn(7, 5)
    stream = ExtendedTensor(_stored(tmp_path, tensor), num_new=3)
    values = torch.cat(list(stream.pieces())).reshape(stream.shape)
    assert stream.shape == (10, 5)
    assert torch.equal(values[:7], tensor)
    away = (values[7:] - tensor.mean(0)) / tensor.std(0, correction=0)
    assert 0.003 < away.std() < 0.03
    assert len({tuple(row) for row in values[7:].tolist()}) == 3
    assert torch.equal(torch.cat(list(stream.pieces())).reshape(stream.shape), values)


def test_transformed_tensor_applies_its_function(tmp_path: Path) -> None:
    tensor = torch.randn(5, 3)
    stream = TransformedTensor(_stored(tmp_path, tensor), lambda t: t.T, (3, 5))
    assert torch.equal(torch.cat(list(stream.pieces())), tensor.T.flatten())


def test_new_tensor_gives_its_values() -> None:
    tensor = torch.randn(5, 3).T
    assert NewTensor(tensor).shape == (3, 5)
    assert torch.equal(torch.cat(list(NewTensor(tensor).pieces())), tensor.flatten())
