# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest

from tests.modeling.twins import assert_end_fusion_equals, config
from tests.reference.naive_end_fusions import naive_concat_1x1


@pytest.mark.parametrize("stage", [4, [2, 4]], ids=str)
def test_concat_1x1_equals_its_slow_twin(stage: int | list[int]) -> None:
    assert_end_fusion_equals(config({"type": "concat_1x1", "stage": stage}, cells=3, width=13), naive_concat_1x1)
