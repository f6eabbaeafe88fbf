# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest

from fila.modeling.fusion import build_fusion
from tests.modeling.twins import assert_end_fusion_equals, config
from tests.reference.naive_end_fusions import naive_upsample_concat


@pytest.mark.parametrize("stage", [4, 3])
def test_upsample_concat_equals_its_slow_twin(stage: int) -> None:
    assert_end_fusion_equals(
        config({"type": "upsample_concat", "stage": stage}, cells=3, width=13), naive_upsample_concat
    )


def test_upsample_concat_makes_a_token_per_cell() -> None:
    fusion = build_fusion(config({"type": "upsample_concat", "stage": 3}))
    assert fusion.output_grid == (10, 10)
    assert fusion.output_size == 12 + 11
