# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""How tests compare computed floats, and what stands for another CPU."""

import pytest
import torch

from tests.helpers import assert_close
from tests.other_cpu import OtherCPU

X = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))


def test_rounding_is_close() -> None:
    assert_close(X * (1 + 3e-6), X)
    assert_close(X[:0], X[:0])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        pytest.param(X.double(), "dtypes differ: torch.float64 and torch.float32", id="dtype"),
        pytest.param(X[1:], r"shapes differ: \(6, 5\) and \(7, 5\)", id="lost-token"),
        pytest.param(X.roll(1, dims=0), "largest difference", id="moved-token"),
        pytest.param(X.bfloat16().float(), "largest difference", id="half-precision-on-the-way"),
        pytest.param(X.where(X < 1, float("nan")), "largest difference nan", id="nan"),
    ],
)
def test_errors_are_not_close(other: torch.Tensor, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        assert_close(other, X)


def test_infinity_is_close_to_nothing() -> None:
    with pytest.raises(AssertionError, match="largest difference inf"):
        assert_close(X, X.where(X < 1, float("inf")))


def test_another_cpu_rounds_by_shape_and_address_and_the_same_call_alike() -> None:
    weight = torch.randn(5, 11, generator=torch.Generator().manual_seed(1))
    moved = torch.cat([torch.zeros(1), weight.flatten()])[1:].view(5, 11)
    with OtherCPU():
        first, again, fewer, elsewhere = X @ weight, X @ weight, X[:3] @ weight, X @ moved
        exact = torch.ones(3, 5) @ torch.ones(5, 3)
    assert torch.equal(again, first)
    assert not torch.equal(fewer, first[:3])
    assert not torch.equal(elsewhere, first)
    assert_close(fewer, first[:3])
    assert_close(elsewhere, first)
    assert exact.unique().tolist() == [5.0]
