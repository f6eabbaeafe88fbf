# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Tensors of the output as streams: copied from a file, transformed, extended by rows, or new."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from .key_rules import TensorFunction
from .safetensors_file import StoredTensor


@dataclass(frozen=True)
class TransformedTensor:
    """`function(source)`; the source is read whole."""

    source: StoredTensor
    function: TensorFunction
    shape: tuple[int, ...]

    def pieces(self) -> Iterator[torch.Tensor]:
        yield self.function(self.source.load()).contiguous().reshape(-1)


@dataclass(frozen=True)
class ExtendedTensor:
    """`source` with `num_new` rows more, each the mean of the source's rows.

    The mean keeps a new token's logit in the range of the others, which a random row would not.
    """

    source: StoredTensor
    num_new: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.source.shape[0] + self.num_new, *self.source.shape[1:])

    def pieces(self) -> Iterator[torch.Tensor]:
        row_shape = self.source.shape[1:]
        total = torch.zeros(row_shape, dtype=torch.float64)
        for piece in self.source.pieces():
            total += piece.reshape(-1, *row_shape).sum(0, dtype=torch.float32)
            yield piece
        mean = (total / self.source.shape[0]).to(self.source.dtype)
        yield mean.expand(self.num_new, *row_shape).reshape(-1)


@dataclass(frozen=True)
class NewTensor:
    """Values that exist in memory: the new modules' weights."""

    values: torch.Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    def pieces(self) -> Iterator[torch.Tensor]:
        yield self.values.detach().contiguous().reshape(-1)
