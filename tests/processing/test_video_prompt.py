# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
from typing import Any

import pytest

from fila.processing.layout import LAYOUTS, Geometry, Layout, as_text, token_indices
from fila.processing.video_prompt import VIDEO_LAYOUTS, build_video_layout, check_clip_tokens, lay_out_video, steps_of

ONE = Geometry((1, 1), (3,))
STC = {"per_step": 2, "size": 2, "stride": 2, "before": 1, "after": 1}


def text(video_layout: dict[str, Any], frames: list[Geometry], times: Any = None, rule: Any = None) -> str:
    return as_text(lay_out_video(build_video_layout(video_layout), Layout(), frames, times, rule), "v")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"type": "plain"}, "vvvvvv"),
        ({"type": "frame_index"}, "vvv0vvv1"),
        ({"type": "timestamps"}, "0.0s: vvv\n1.5s: vvv\n"),
        (
            {"type": "plain", "video_start": "<v>", "frame_start": "[{index}]", "video_end": "</v>"},
            "<v>[0]vvv[1]vvv</v>",
        ),
    ],
)
def test_text_stands_around_frames(options: dict[str, Any], expected: str) -> None:
    assert text(options, [ONE, ONE], [0.0, 1.5]) == expected


def test_steps_stand_where_frames_would() -> None:
    assert text({"type": "frame_index"}, [ONE] * 5, None, STC) == "vv0vv1vv2"
    assert text({"type": "timestamps"}, [ONE] * 4, [0.0, 0.5, 1.0, 1.5], STC) == "0.0s: vv\n0.5s: vv\n1.5s: vv\n"
    assert text({"type": "plain"}, [ONE] * 4, None, {"per_clip": 5}) == "vvvvv"


@pytest.mark.parametrize(
    ("frames", "tokens", "expected"),
    [(8, 169, 845), (16, 169, 1521)],
)
def test_steps_of_videollama2(frames: int, tokens: int, expected: int) -> None:
    assert sum(count for count, _ in steps_of(STC | {"per_step": tokens}, frames)) == expected


def test_tokens_are_counted_over_the_video_and_frames_have_no_image_number() -> None:
    geometry = Geometry((1, 2), (2, 3, 3))
    layout = LAYOUTS["minicpm_v_2_6"]
    pieces = lay_out_video(VIDEO_LAYOUTS["plain"], layout, [geometry, ONE], None)
    assert token_indices(pieces) == list(range(11))
    assert as_text(pieces, "v") == "<image>vv</image><slice>vvv</slice><slice>vvv</slice><image>vvv</image>"
    pieces = lay_out_video(VIDEO_LAYOUTS["plain"], LAYOUTS["llava_uhd"], [geometry, geometry], None)
    assert token_indices(pieces) == [2, 3, 4, 5, 6, 7, 0, 1, 10, 11, 12, 13, 14, 15, 8, 9]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"type": ["plain"]}, r"`video_layout` must be a dict whose 'type' is one of .* got \{'type': \['plain'\]\}"),
        ({"type": "minutes"}, r"`video_layout` must be a dict whose 'type' is one of \['frame_index', 'plain'"),
        ({"type": "plain", "row_end": ""}, r"A video layout has no field 'row_end'; it has \['video_start'"),
        ({"type": "plain", "video_start": 1}, r"`video_layout.video_start` must be a string; got 1"),
    ],
)
def test_video_layout_rejects(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_video_layout(options)


@pytest.mark.parametrize("rule", [{"per_step": 2}, {"per_clip": 2.5}, 7, {**STC, "per_clip": 1}])
def test_clip_tokens_rejects(rule: Any) -> None:
    with pytest.raises(ValueError, match=r"`clip_tokens` must be None, .*Write the model's `clip_tokens`"):
        check_clip_tokens(rule)


def test_times_that_nobody_knows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"nothing says how fast these frames were taken"):
        text({"type": "timestamps"}, [ONE])


def test_clip_without_a_step_is_refused() -> None:
    with pytest.raises(ValueError, match=r"connector joins 2 frames, and a video has 1. Sample more"):
        steps_of({"per_step": 2, "size": 2, "stride": 2, "before": 0, "after": 0}, 1)
