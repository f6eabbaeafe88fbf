# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Write a video into a prompt: the tokens of its frames, in order, and the text around them.

A video layout is data, as an image's is (`layout.py`), which lays out each frame:

    video_start
    frame_start TOKENS frame_end          each frame; `{index}` is its number from 0, `{seconds}` its time, one decimal
    video_end

A connector that joins frames gives no tokens of single frames but of *steps*; then each step takes the place of a
frame, with the number of the step and the time of its first frame. `clip_tokens` says how many:

    {"per_step": 169, "size": 2, "stride": 2, "before": 1, "after": 1}     a step per window of frames (VideoLLaMA 2)
    {"per_clip": 576}                                                      one step, of all frames

CogVLM2-Video's template `chat` writes the number of the frame after its tokens ("frame_index"); it is the second
because that model is shown one frame per second. Its other templates and VideoLLaMA 2 write nothing ("plain").
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from .layout import Geometry, Layout, Piece, lay_out

RULES = ({"per_step", "size", "stride", "before", "after"}, {"per_clip"})


@dataclass(frozen=True)
class VideoLayout:
    """Text around a video and its frames."""

    video_start: str = ""
    video_end: str = ""
    frame_start: str = ""
    frame_end: str = ""


VIDEO_LAYOUTS: dict[str, VideoLayout] = {
    "frame_index": VideoLayout(frame_end="{index}"),
    "plain": VideoLayout(),
    "timestamps": VideoLayout(frame_start="{seconds}s: ", frame_end="\n"),
}


def build_video_layout(options: Mapping[str, Any]) -> VideoLayout:
    """Build the layout that `options["type"]` names, with the fields that `options` replaces.

    Raises:
        ValueError: If the type, a field or a value is not accepted.
    """
    name = options.get("type") if isinstance(options, Mapping) else None
    if not isinstance(name, str) or name not in VIDEO_LAYOUTS:
        raise ValueError(
            f"`video_layout` must be a dict whose 'type' is one of {sorted(VIDEO_LAYOUTS)}; got {options!r}."
        )
    given = {field: value for field, value in options.items() if field != "type"}
    accepted = [field.name for field in fields(VideoLayout)]
    for field, value in given.items():
        if field not in accepted:
            raise ValueError(f"A video layout has no field {field!r}; it has {accepted}.")
        if not isinstance(value, str):
            raise ValueError(f"`video_layout.{field}` must be a string; got {value!r}.")
    return replace(VIDEO_LAYOUTS[name], **given)


def check_clip_tokens(rule: object) -> None:
    """Check that `rule` is None or has one of the two forms above; raise a `ValueError` otherwise."""
    if rule is None:
        return
    if (
        not isinstance(rule, Mapping)
        or set(rule) not in RULES
        or any(type(value) is not int for value in rule.values())
    ):
        raise ValueError(
            f"`clip_tokens` must be None, {{'per_clip': tokens}} or {{'per_step', 'size', 'stride', 'before', "
            f"'after'}}, whole numbers; got {rule!r}. Write the model's `clip_tokens`."
        )


def steps_of(rule: Mapping[str, int], num_frames: int) -> list[tuple[int, int]]:
    """Return (tokens, first frame) of each step of a clip.

    Raises:
        ValueError: If the clip is too short for a step.
    """
    if "per_clip" in rule:
        return [(rule["per_clip"], 0)]
    steps = (num_frames + rule["before"] + rule["after"] - rule["size"]) // rule["stride"] + 1
    if steps < 1:
        raise ValueError(
            f"The model's connector joins {rule['size']} frames, and a video has {num_frames}. Sample more frames."
        )
    firsts = (min(max(0, step * rule["stride"] - rule["before"]), num_frames - 1) for step in range(steps))
    return [(rule["per_step"], first) for first in firsts]


def lay_out_video(
    video_layout: VideoLayout,
    layout: Layout,
    frames: Sequence[Geometry],
    times: Sequence[float] | None,
    clip_tokens: Mapping[str, int] | None = None,
) -> list[Piece]:
    """Return text and tokens of a video, in the order of the prompt.

    Args:
        video_layout: Text around frames.
        layout: Layout of each frame; frames get no image number.
        frames: Geometry of each frame.
        times: Second of each frame, if known.
        clip_tokens: Tokens of a connector that joins frames.

    Returns:
        Pieces as from `lay_out`; token indices count over the whole video.

    Raises:
        ValueError: If the layout writes times and there are none, or the clip is too short.
    """
    if "{seconds}" in video_layout.frame_start + video_layout.frame_end and times is None:
        raise ValueError(
            "The video layout writes seconds, and nothing says how fast these frames were taken. Pass "
            '`video_metadata={"fps": ...}`, or another `video_layout`.'
        )
    layout = replace(layout, image_id_start="", image_id_end="")
    pieces: list[Piece] = [video_layout.video_start]
    start = 0
    if clip_tokens is None:
        parts = [
            (lay_out(layout, geometry), sum(geometry.token_counts), number) for number, geometry in enumerate(frames)
        ]
    else:
        found = steps_of(clip_tokens, len(frames))
        parts = [([range(count)], count, first) for count, first in found]
    for number, (own, count, frame) in enumerate(parts):
        seconds = None if times is None else times[frame]
        pieces.append(_filled(video_layout.frame_start, number, seconds))
        pieces += [piece if isinstance(piece, str) else _moved(piece, start) for piece in own]
        pieces.append(_filled(video_layout.frame_end, number, seconds))
        start += count
    pieces.append(video_layout.video_end)
    return [piece for piece in pieces if piece]


def _moved(tokens: Sequence[int], start: int) -> Sequence[int]:
    """Shift token indices by `start`; negative ones are not tokens and stay."""
    return [token + start if token >= 0 else token for token in tokens]


def _filled(text: str, number: int, seconds: float | None) -> str:
    return text.replace("{index}", str(number)).replace("{seconds}", "" if seconds is None else f"{seconds:.1f}")
