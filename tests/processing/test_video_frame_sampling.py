# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fila.processing.video_frame_sampling import SAMPLERS, Clip, fps, frame_range, linspace, sample, seconds, uniform
from tests.cases import each
from tests.goldens import tensors_of


def test_videollama2_frames_golden() -> None:
    checked = 0
    for _, tensors in tensors_of("videollama2_frame_sample.safetensors"):
        for key, expected in tensors.items():
            if match := re.fullmatch(r"out/uniform\.d(\d+)\.n(\d+)", key):
                found = uniform(Clip(int(match[1])), num_frames=int(match[2]))
            else:
                match = re.fullmatch(r"out/fps\.d(\d+)\.f([\d.]+)", key)
                assert match is not None, key
                found = fps(Clip(int(match[1]), fps=float(match[2])), max_frames=10**6)
            assert found == expected.tolist(), key
            checked += 1
    assert checked >= 157


def test_cogvlm2_frames_golden() -> None:
    checked = 0
    for metadata, tensors in tensors_of("cogvlm2video_frame_sample.safetensors"):
        most = int(metadata.get("num_frames", 24))
        for name, case in json.loads(metadata["cases"]).items():
            clip = Clip(case["frames"], case["fps"], tensors[f"in/timestamps.{name}"].tolist())
            assert seconds(clip, num_frames=most) == tensors[f"out/chat.{name}"].tolist(), name
            assert linspace(clip, num_frames=most) == tensors[f"out/base.{name}"].tolist(), name
            checked += 1
    assert checked >= 10


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted(SAMPLERS)), num_frames=st.integers(1, 5000), rate=st.floats(1, 240))
def test_every_frame_exists_and_time_does_not_run_back(name: str, num_frames: int, rate: float) -> None:
    found = sample({"type": name}, Clip(num_frames, rate))
    assert found == sorted(found)
    assert 0 <= found[0] <= found[-1] < num_frames
    assert len(found) <= 32


@each(
    ("start", "end", "expected"),
    [
        (None, None, (0, 99)),
        (2, 5, (19, 49)),
        (5, 2, (19, 49)),
        (-3, 2, (0, 19)),
        (4, 4, (39, 49)),
        (0, 0, (0, 9)),
        (2, None, (19, 99)),
        (None, 3, (0, 29)),
        (8, 400, (79, 99)),
        (50, 60, (99, 99)),
    ],
)
def test_frame_range_counts_as_the_source(start: float | None, end: float | None, expected: tuple[int, int]) -> None:
    assert frame_range(Clip(100, fps=10), start, end) == expected


def test_range_is_sampled_as_a_clip_of_its_own() -> None:
    clip = Clip(100, fps=10, times=[index / 10 for index in range(100)])
    assert sample({"type": "uniform", "num_frames": 3}, clip, start=2, end=5) == [24, 34, 44]
    assert sample({"type": "seconds"}, clip, start=2, end=5) == [19, 29, 39, 49]


def test_times_that_are_not_even_are_followed() -> None:
    clip = Clip(5, fps=2.0, times=[0.0, 0.1, 0.2, 1.9, 3.2])
    assert sample({"type": "seconds"}, clip) == [0, 2, 3, 4]


@each(
    ("options", "clip", "message"),
    [
        ({"type": "all"}, Clip(9), r"`sampling` must be a dict whose 'type' is one of .*'uniform'.*'all'"),
        ("uniform", Clip(9), r"`sampling` must be a dict whose 'type' is one of"),
        (
            {"type": ["uniform"]},
            Clip(9),
            r"`sampling` must be a dict whose 'type' is one of .* got \{'type': \['uniform'",
        ),
        ({"type": "fps", "num_frames": 3}, Clip(9), r"Sampling 'fps' has no option 'num_frames'; .*\['max_frames'\]"),
        ({"type": "uniform", "num_frames": 0}, Clip(9), r"`sampling.num_frames` must be a positive integer; got 0"),
        ({"type": "uniform", "num_frames": 8.0}, Clip(9), r"`sampling.num_frames` must be a positive integer; got 8"),
        ({"type": "uniform", "num_frames": 10**9}, Clip(9), r"`sampling.num_frames` must be at most 65536 frames"),
        ({"type": "linspace", "max_seconds": 0}, Clip(9), r"`sampling.max_seconds` must be a positive number; got 0"),
        ({"type": "fps"}, Clip(9, fps=0.5), r"the video has 0.5 per second"),
        ({"type": "seconds"}, Clip(9), r"needs the frames per second of the video"),
    ],
)
def test_sampling_rejects(options: Any, clip: Clip, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample(options, clip)


@pytest.mark.parametrize("times", [[0.0, 0.5, 1.5, 2.5], [2.0, 0.0, 1.0, 1.0, 0.9], [0.0, 0.0, 1.1, 1.1]])
def test_seconds_take_the_nearest_frame_in_any_order(times: list[float]) -> None:
    nearest = [min(range(len(times)), key=lambda i: (abs(times[i] - second), i)) for second in range(2)]
    assert sample({"type": "seconds"}, Clip(len(times), times=times))[:2] == nearest
