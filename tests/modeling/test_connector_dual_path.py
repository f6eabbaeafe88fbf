# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
from typing import Any

import pytest
import torch

from fila.modeling.video_clips import clip_tokens
from tests.helpers import assert_close
from tests.modeling.twins import assert_same, random_connector
from tests.reference.naive_video_connectors import naive_dual_path


def whole(connector: Any, clip: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    return clip_tokens(connector, lambda first, last: clip[first:last], len(clip), grid)


@pytest.mark.parametrize("causal", [False, True])
def test_clip_equals_the_slow_twin(causal: bool) -> None:
    connector = random_connector({"type": "dual_path", "filters": 3, "causal": causal}, 5, 7)
    clip = torch.randn(4, 20, 5, dtype=torch.float64, requires_grad=True)
    weights = dict(connector.named_parameters())
    expected = naive_dual_path(weights, clip, (5, 4), pool=2, causal=causal)
    assert_same(whole(connector, clip, (5, 4)), expected, weights | {"clip": clip}, tolerance=1e-10)


@torch.no_grad()
def test_causal_tokens_do_not_see_later_frames() -> None:
    clip = torch.randn(5, 20, 5).double()
    changed = clip.clone()
    changed[3] += 1
    for causal, same in ((True, 3), (False, 2)):
        connector = random_connector({"type": "dual_path", "causal": causal}, 5, 7)
        before, after = (whole(connector, x, (5, 4)).unflatten(0, (5, -1)) for x in (clip, changed))
        assert_close(after[:same], before[:same], 1e-12)
        assert (after[same] - before[same]).abs().max() > 1e-3


@torch.no_grad()
def test_spatial_path_is_frame_wise_and_temporal_path_is_place_wise() -> None:
    connector = random_connector({"type": "dual_path"}, 5, 7)
    maps = torch.randn(1, 5, 6, 9, 8).double()
    changed = maps.clone()
    changed[:, :, 3, 4, 4] += 1
    moved = (connector.spatial(changed) - connector.spatial(maps)).abs().sum(dim=(0, 1))
    assert moved[3].any()
    assert not moved[[0, 1, 2, 4, 5]].any()
    moved = (connector.temporal(changed) - connector.temporal(maps)).abs().sum(dim=(0, 1))
    assert moved[:, 4, 4].any()
    moved[:, 4, 4] = 0
    assert not moved.any()


@torch.no_grad()
def test_open_gate_is_one_path_alone() -> None:
    connector = random_connector({"type": "dual_path", "filters": 3}, 5, 7)
    clip = torch.randn(3, 16, 5).double()
    connector.gate.weight.zero_()
    connector.gate.bias.fill_(1e9)
    tokens = whole(connector, clip, (4, 4))
    connector.temporal.weight.zero_()
    assert_close(whole(connector, clip, (4, 4)), tokens, 1e-12)


@pytest.mark.parametrize("option", ["filters", "pool"])
def test_dual_path_rejects(option: str) -> None:
    with pytest.raises(ValueError, match=rf"`connector.{option}` must be at least 1; got 0"):
        random_connector({"type": "dual_path", option: 0}, 5, 7)


def test_dual_path_rejects_a_grid_without_a_block() -> None:
    with pytest.raises(ValueError, match=r"Connector 'dual_path' pools 2x2 patches; got a grid of \(1, 6\)"):
        random_connector({"type": "dual_path"}, 5, 7).tokens_per_tile((1, 6))
