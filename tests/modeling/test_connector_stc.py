# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
from typing import Any

import pytest
import torch

from fila.modeling.video_clips import clip_tokens
from tests.helpers import assert_close
from tests.modeling.twins import assert_same, random_connector
from tests.reference.naive_video_connectors import naive_stc

PADDING = {"stc": 1, "spatial_conv": 1}


def whole(connector: Any, clip: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    return clip_tokens(connector, lambda first, last: clip[first:last], len(clip), grid)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("stc", {"depth": 2}),
        ("stc", {"downsample": [3, 2, 1], "depth": 1, "mlp_depth": 3}),
        ("stc_v35", {"depth": 1}),
        ("stp", {"depth": 2, "mlp_depth": 1}),
        ("spatial_conv", {}),
        ("spatial_pool", {}),
    ],
)
def test_clip_equals_the_slow_twin(name: str, options: dict[str, Any]) -> None:
    width = 5 if name.startswith("spatial") else 7
    connector = random_connector({"type": name} | options, 5, width)
    clip = torch.randn(4, 15, 5, dtype=torch.float64, requires_grad=True)
    weights = dict(connector.named_parameters())
    expected = naive_stc(
        weights,
        clip,
        (5, 3),
        downsample=connector.downsample,
        padding=PADDING.get(name, 0),
        depth=options.get("depth", 0),
        mlp_depth=options.get("mlp_depth", 2),
    )
    assert_same(whole(connector, clip, (5, 3)), expected, weights | {"clip": clip}, tolerance=1e-10)


@pytest.mark.parametrize("name", ["stc", "stc_v35", "stp"])
@torch.no_grad()
def test_image_is_a_clip_that_repeats_it(name: str) -> None:
    connector = random_connector({"type": name, "depth": 1, "image_frames": 5}, 5, 7)
    views = torch.randn(2, 24, 5, dtype=torch.float64)
    tokens = connector(views, (4, 6))
    for view, found in zip(views, tokens, strict=True):
        assert_close(found, whole(connector, view.expand(5, -1, -1), (4, 6)), 1e-12)


@pytest.mark.parametrize(
    ("name", "num_frames", "side", "expected"),
    [
        ("stc", 8, 24, 845),
        ("stc", 16, 24, 1521),
        ("stc_v35", 8, 24, 576),
        ("stp", 8, 24, 576),
        ("stc_v35", 16, 27, 1352),
    ],
)
def test_number_of_tokens_is_the_systems(name: str, num_frames: int, side: int, expected: int) -> None:
    connector = random_connector({"type": name, "depth": 1}, 5, 7)
    assert connector.tokens_per_clip(num_frames, (side, side)) == expected


def test_padding_lets_one_frame_through() -> None:
    connector = random_connector({"type": "stc", "depth": 1}, 5, 7)
    assert whole(connector, torch.randn(1, 24, 5).double(), (4, 6)).shape == (12, 7)


@pytest.mark.parametrize("name", ["stc_v35", "stp"])
def test_clip_shorter_than_a_window_is_refused(name: str) -> None:
    connector = random_connector({"type": name, "depth": 1}, 5, 7)
    with pytest.raises(
        ValueError,
        match=rf"Connector '{name}' joins \(2, 2, 2\) frames, rows and columns, so a clip must have at least "
        r"\(2, 2, 2\); got \(1, 4, 6\). Sample more frames",
    ):
        whole(connector, torch.randn(1, 24, 5).double(), (4, 6))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"downsample": [2, 2]}, r"`connector.downsample` must be three positive integers.*got \[2, 2\]"),
        ({"downsample": [2, 0, 2]}, r"`connector.downsample` must be three positive integers"),
        ({"depth": -1}, r"`connector.depth` must be at least 0; got -1"),
        ({"mlp_depth": 0}, r"`connector.mlp_depth` must be at least 1; got 0"),
        ({"image_frames": 0}, r"`connector.image_frames` must be at least 1; got 0"),
        ({"depth": 0}, r"Connector 'stc' without RegStages needs features of the language model's width, 7; .* 5"),
    ],
)
def test_stc_rejects(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        random_connector({"type": "stc"} | options, 5, 7)
