# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest
import torch

from fila.modeling.fusion import build_fusion
from fila.modeling.fusion_se import SqueezeExcitation
from tests.helpers import randomise
from tests.modeling.twins import assert_end_fusion_equals, config
from tests.reference.naive_end_fusions import naive_se


@pytest.mark.parametrize("stage", [4, [2, 4]], ids=str)
def test_se_equals_its_slow_twin(stage: int | list[int]) -> None:
    assert_end_fusion_equals(config({"type": "se", "stage": stage, "reduction": 3}, cells=3, width=13), naive_se)


def test_shares_are_between_zero_and_one_and_alike_for_all_patches() -> None:
    gate = SqueezeExcitation(7, 2)
    randomise(gate)
    tokens = torch.randn(3, 5, 7)
    shares = gate(tokens) / tokens
    assert ((shares > 0) & (shares < 1)).all()
    assert torch.allclose(shares, shares[:, :1].expand_as(shares), atol=1e-5)


def test_se_rejects_a_reduction_to_nothing() -> None:
    with pytest.raises(ValueError, match=r"`fusion.reduction` must be at least 1; got 0"):
        build_fusion(config({"type": "se", "reduction": 0}))
