# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest
import torch

from fila.modeling.image_resize import resize_corners
from tests.modeling.twins import GRID, LAYOUT, assert_end_fusion_equals, config, random_fusion, random_inputs
from tests.reference.naive_end_fusions import naive_channel_concat


@pytest.mark.parametrize("grid", [GRID, 7, 3])
@pytest.mark.parametrize("stage", [4, [3, 4]], ids=str)
def test_channel_concat_equals_its_slow_twin(stage: int | list[int], grid: int) -> None:
    options = {"type": "channel_concat", "align": "corners", "grid": grid, "stage": stage}
    assert_end_fusion_equals(config(options, width=13), lambda *args: naive_channel_concat(*args, grid))


def test_aligned_corners_skip_cells_when_they_shrink() -> None:
    # 64 -> 32 of EAGLE: every token is near one cell, the cells between are hardly read
    row = resize_corners(torch.arange(64.0).expand(1, 1, 64, 64), (32, 32))[0, 0, 0]
    assert row[0] == 0
    assert float(row[-1]) == pytest.approx(63)
    assert torch.allclose(row, torch.arange(32) * 63 / 31)


def test_low_res_patches_come_first_and_keep_their_order() -> None:
    settings = config({"type": "channel_concat"})
    fusion = random_fusion(settings)
    low, maps = random_inputs(fusion, settings)
    assert torch.equal(fusion.finish(low, tuple(maps), LAYOUT)[..., :12], low)


def test_channel_concat_rejects_a_grid_without_tokens() -> None:
    with pytest.raises(ValueError, match=r"`fusion.grid` must be at least 1; got 0"):
        random_fusion(config({"type": "channel_concat", "grid": 0}))
