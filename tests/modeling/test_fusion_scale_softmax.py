# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest
import torch

from fila import FilaVisionModel
from tests.helpers import tiny_config
from tests.modeling.twins import assert_end_fusion_equals, config
from tests.reference.naive_end_fusions import naive_scale_softmax


@pytest.mark.parametrize("stages", [[4], [2, 3, 4]], ids=str)
def test_scale_softmax_equals_its_slow_twin(stages: list[int]) -> None:
    settings = config({"type": "scale_softmax", "stages": stages, "align": "conv"}, width=13)
    assert_end_fusion_equals(settings, naive_scale_softmax)


def test_scale_softmax_starts_as_the_mean() -> None:
    scales = FilaVisionModel(tiny_config(fusion={"type": "scale_softmax", "stages": [3, 4]})).fusion.scales
    parts = [torch.randn(2, 3, 5) for _ in range(3)]
    assert torch.allclose(scales(parts), sum(parts) / 3, atol=1e-6)
