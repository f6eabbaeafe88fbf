# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fila.modeling.connector import CONNECTORS
from fila.modeling.video_clips import TimeWindow, clip_tokens, joins_frames, tokens_per_clip
from tests.contract.settings import connector_settings
from tests.helpers import assert_close, tiny_config
from tests.modeling.twins import random_connector

GRID = (4, 6)


# the default reads windows of 8 x 8 patches
SMALL = {"window_qformer": {"query_side": 1, "window_side": 2, "num_heads": 4}}


def connector_of(name: str, **options: Any) -> Any:
    width = tiny_config(**connector_settings(name)).text_config.hidden_size
    return random_connector({"type": name} | SMALL.get(name, {}) | options, 20, width).eval()


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 4),
    stride=st.integers(1, 4),
    before=st.integers(0, 3),
    after=st.integers(0, 3),
    num_frames=st.integers(1, 17),
    chunk=st.integers(1, 20),
)
def test_pieces_hold_the_frames_of_every_window(
    size: int, stride: int, before: int, after: int, num_frames: int, chunk: int
) -> None:
    window = TimeWindow(size, stride, before, after)
    padded = [None] * before + list(range(num_frames)) + [None] * after
    expected = [padded[start : start + size] for start in range(0, len(padded) - size + 1, stride)]
    found = []
    for piece in window.pieces(num_frames, chunk):
        frames = [None] * piece.before + list(range(piece.first, piece.last)) + [None] * piece.after
        found += [frames[start : start + size] for start in range(0, len(frames) - size + 1, stride)]
    assert found == expected
    assert window.steps(num_frames) == len(expected)


@pytest.mark.parametrize("num_frames", [2, 7])
@pytest.mark.parametrize("name", CONNECTORS)
@torch.no_grad()
def test_chunks_equal_the_whole_clip(name: str, num_frames: int) -> None:
    connector = connector_of(name)
    clip = torch.randn(num_frames, 24, 20, dtype=torch.float64)
    longest = 0

    def read(first: int, last: int) -> torch.Tensor:
        nonlocal longest
        longest = max(longest, last - first)
        return clip[first:last]

    whole = clip_tokens(connector, read, num_frames, GRID)
    assert whole.shape[0] == tokens_per_clip(connector, num_frames, GRID)
    for chunk in (1, 2, 3):
        longest = 0
        assert_close(clip_tokens(connector, read, num_frames, GRID, chunk), whole)
        assert longest <= max(chunk, 2) + 2  # a window, and what the windows beside it see


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_mean_over_time_is_the_tokens_of_the_mean_frame(name: str) -> None:
    connector = connector_of(name, over_time="mean")
    clip = torch.randn(5, 24, 20, dtype=torch.float64)
    tokens = clip_tokens(connector, lambda first, last: clip[first:last], 5, GRID, 2)
    assert joins_frames(connector)
    assert tokens_per_clip(connector, 5, GRID) == 24
    assert_close(tokens, connector(clip.mean(dim=0, keepdim=True), GRID)[0], 1e-12)


def test_mean_over_time_is_summed_in_float32() -> None:
    connector = connector_of("linear", over_time="mean").bfloat16()
    connector.linear.weight.data.copy_(torch.eye(24, 20))
    connector.linear.bias.data.zero_()
    clip = torch.full((1001, 24, 20), 1.0, dtype=torch.bfloat16)
    tokens = clip_tokens(connector, lambda first, last: clip[first:last], len(clip), GRID, 7)
    assert torch.equal(tokens[:, :20], clip[0])


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_over_time_rejects(name: str) -> None:
    with pytest.raises(ValueError, match=r"`connector.over_time` must be one of \['each', 'mean'\]; got 'sum'"):
        connector_of(name, over_time="sum")
