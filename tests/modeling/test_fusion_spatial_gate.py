# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest

from tests.modeling.twins import assert_end_fusion_equals, config
from tests.reference.naive_end_fusions import naive_spatial_gate


@pytest.mark.parametrize("stage", [4, 3])
def test_spatial_gate_equals_its_slow_twin(stage: int) -> None:
    options = {"type": "spatial_gate", "stage": stage, "align": "pool"}
    assert_end_fusion_equals(config(options, cells=3, width=13), naive_spatial_gate)
