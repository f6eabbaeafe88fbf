# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest
import torch

from fila.modeling.fusion import build_fusion
from tests.modeling.twins import GRID, LAYOUT, assert_end_fusion_equals, config, random_fusion, random_inputs
from tests.reference.naive_patch_info_mining import naive_patch_info_mining

# a bias that adds the same to every key of a window
UNSEEN = ("mining.key.0.bias", "mining.key.1.bias")


@pytest.mark.parametrize("stages", [[1, 2, 3, 4], [2, 4], [3]], ids=str)
def test_patch_info_mining_equals_its_slow_twin(stages: list[int]) -> None:
    assert_end_fusion_equals(
        config({"type": "patch_info_mining", "stages": stages}, width=13),
        lambda weights, low, high, side: naive_patch_info_mining(weights, low, high[0], side),
        unseen=UNSEEN,
    )


def test_a_patch_reads_its_own_window_only() -> None:
    settings = config({"type": "patch_info_mining", "stages": [2]})
    fusion = random_fusion(settings)
    low, maps = random_inputs(fusion, settings)
    before = fusion.finish(low, tuple(maps), LAYOUT)
    changed = maps[0].detach().clone()
    changed[:, :, 4:8, 8:12] += 1  # four cells per patch and side: row 1, column 2
    effect = (fusion.finish(low, (changed,), LAYOUT) - before).abs().amax(dim=(0, 2))
    assert effect.nonzero().flatten().tolist() == [1 * GRID + 2]


@pytest.mark.parametrize(
    ("options", "cells", "message"),
    [
        ({"stages": [2, 1]}, 5, r"`fusion.stages` must be increasing stages of the high-res tower, 1\.\.4"),
        ({"stages": [4]}, 7, r"a view's 7x7 cells of stage 4 must be a multiple of its 5x5 patches"),
    ],
)
def test_patch_info_mining_rejects(options: dict[str, object], cells: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_fusion(config({"type": "patch_info_mining"} | options, cells=cells))


def test_all_stages_are_mined_by_default() -> None:
    fusion = build_fusion(config({"type": "patch_info_mining"}))
    assert fusion.final_stages == ((1, 2, 3, 4),)
    assert fusion.mining.key[0].weight.shape == torch.Size([5 + 7 + 11 + 13])
