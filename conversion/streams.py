# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Streams of output tensors: transformed, extended by rows, or new."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from .key_rules import TensorFunction
from .safetensors_file import StoredTensor


@dataclass(frozen=True)
class TransformedTensor:
    """The tensor `function(source)`; the source is read whole."""

    source: StoredTensor
    function: TensorFunction
    shape: tuple[int, ...]

    def pieces(self) -> Iterator[torch.Tensor]:
        yield self.function(self.source.load()).contiguous().reshape(-1)


@dataclass(frozen=True)
class ExtendedTensor:
    """`source` with `num_new` additional rows, each close to the mean of the source's rows.

    The mean keeps a new token's logit in the range of the others; a random row would not. Noise of a hundredth of the
    rows' standard deviation, with a fixed seed, makes the new rows distinct: if a caller passes embedded text, the
    model finds placeholders by their embedding.
    """

    source: StoredTensor
    num_new: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.source.shape[0] + self.num_new, *self.source.shape[1:])

    def pieces(self) -> Iterator[torch.Tensor]:
        row_shape = self.source.shape[1:]
        total, squares = torch.zeros(row_shape, dtype=torch.float64), torch.zeros(row_shape, dtype=torch.float64)
        for piece in self.source.pieces():
            rows = piece.reshape(-1, *row_shape).float()
            total += rows.sum(0)
            squares += rows.square().sum(0)
            yield piece
        mean = total / self.source.shape[0]
        deviation = (squares / self.source.shape[0] - mean.square()).clamp(min=0).sqrt()
        noise = torch.randn(self.num_new, *row_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        yield (mean + 0.01 * deviation * noise).to(self.source.dtype).reshape(-1)


@dataclass(frozen=True)
class NewTensor:
    """A tensor in memory: a weight of a new module."""

    values: torch.Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    def pieces(self) -> Iterator[torch.Tensor]:
        yield self.values.detach().contiguous().reshape(-1)
