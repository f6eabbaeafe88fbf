# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest

from fila.modeling.fusion import build_fusion
from tests.modeling.twins import assert_end_fusion_equals, config
from tests.reference.naive_end_fusions import naive_cbam


@pytest.mark.parametrize("kernel_size", [7, 3])
@pytest.mark.parametrize("stage", [4, [2, 4]], ids=str)
def test_cbam_equals_its_slow_twin(stage: int | list[int], kernel_size: int) -> None:
    options = {"type": "cbam", "stage": stage, "reduction": 3, "kernel_size": kernel_size}
    assert_end_fusion_equals(config(options, cells=3, width=13), naive_cbam)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 4}, r"`fusion.kernel_size` must be odd and positive; got 4"),
        ({"reduction": 0}, r"`fusion.reduction` must be at least 1; got 0"),
    ],
)
def test_cbam_rejects(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_fusion(config({"type": "cbam"} | options))
