# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Choose the frames of a video that the model sees; computes integers from integers, without pixels.

    uniform   middles of `num_frames` equal parts of the clip                    VideoLLaMA 2, a fixed number of frames
    fps       one frame per second, the first `max_frames`                       VideoLLaMA 2, `num_frames=None`
    seconds   the frame nearest to each whole second, the first `num_frames`     CogVLM2-Video, chat
    linspace  `num_frames` from the first frame to the last of `max_seconds`     CogVLM2-Video, base

A short clip gives repeated frames with `uniform` and `linspace`, and fewer frames with `fps` and `seconds`.

Code: DAMO-NLP-SG/VideoLLaMA2 @ c0bb03a, `mm_utils.py`: `frame_sample`, `process_video`; THUDM/CogVLM2 @ 6700ae7,
`video_demo/cli_video_demo.py`: `load_video`.

Deviations: a frame rate below 1 is an error with `fps`, where the source divides by zero.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

MAX_SAMPLED = 2**16  # most frames of one video that a sampler may return
DEFAULT_SAMPLING = {"type": "uniform", "num_frames": 8}


@dataclass(frozen=True)
class Clip:
    """The facts about a video that sampling uses.

    Attributes:
        num_frames: Number of frames, 1 or more.
        fps: Frames per second on average, or None if unknown.
        times: Second of each frame; None means `i / fps`.
    """

    num_frames: int
    fps: float | None = None
    times: Sequence[float] | None = None

    def rate(self) -> float:
        """Return the frames per second.

        Raises:
            ValueError: If the rate is unknown.
        """
        if self.fps is None or not self.fps > 0:
            raise ValueError(
                "Sampling by time needs the frames per second of the video, which a list of frames does not have. "
                'Pass `video_metadata={"fps": ...}`, or sample "uniform".'
            )
        return float(self.fps)

    def seconds(self) -> list[float]:
        """Return the second of each frame."""
        if self.times is not None:
            return list(self.times)
        rate = self.rate()
        return [index / rate for index in range(self.num_frames)]


def uniform(clip: Clip, *, num_frames: int = 8) -> list[int]:
    """Return the middle of each of `num_frames` equal parts; a half is rounded up.

    Example:
        >>> uniform(Clip(10), num_frames=3)
        [2, 5, 8]
    """
    part = float(clip.num_frames - 1) / num_frames
    middles = [(part * index + part * (index + 1)) / 2 for index in range(num_frames)]
    return [int(np.round(middle + 1e-6)) for middle in middles]


def fps(clip: Clip, *, max_frames: int = 32) -> list[int]:
    """Return one frame per second, from the middle of the first second on.

    Raises:
        ValueError: If the video has less than one frame per second.
    """
    rate = clip.rate()
    if rate < 1:
        raise ValueError(
            f"Sampling 'fps' takes one frame per second, and the video has {rate:g} per second. Sample 'uniform' or "
            "'seconds'."
        )
    step = int(min(rate // 1, clip.num_frames))
    return list(range(step // 2, clip.num_frames, step))[:max_frames]


def seconds(clip: Clip, *, num_frames: int = 24) -> list[int]:
    """Return the frame nearest to each of the seconds 0, 1, ...; the first of two wins a tie."""
    times = np.asarray(clip.seconds(), dtype=np.float64)
    last = min(round(float(times.max())), num_frames - 1)
    order = np.argsort(times, kind="stable")  # binary search, because a scan of all times per second is quadratic
    in_order = times[order]

    def nearest(second: int) -> int:
        after = int(np.searchsorted(in_order, second))
        before = int(np.searchsorted(in_order, in_order[after - 1])) if after else after
        candidates = [int(order[place]) for place in (before, after) if place < len(order)]
        return min(candidates, key=lambda index: (abs(times[index] - second), index))

    return [nearest(second) for second in range(last + 1)]


def linspace(clip: Clip, *, num_frames: int = 24, max_seconds: float = 60) -> list[int]:
    """Return `num_frames` frames at equal distances, both ends included, rounded down.

    Example:
        >>> linspace(Clip(10, fps=2), num_frames=3)
        [0, 4, 9]
    """
    last = min(clip.num_frames, int(max_seconds * clip.rate())) - 1
    return [int(index) for index in np.linspace(0, max(last, 0), num_frames, dtype=int)]


SAMPLERS: dict[str, Callable[..., list[int]]] = {
    "fps": fps,
    "linspace": linspace,
    "seconds": seconds,
    "uniform": uniform,
}


def check_sampling(options: Mapping[str, Any]) -> None:
    """Check that `options` name a sampler and positive options of it; raise a `ValueError` otherwise."""
    name = options.get("type") if isinstance(options, Mapping) else None
    if not isinstance(name, str) or name not in SAMPLERS:
        raise ValueError(f"`sampling` must be a dict whose 'type' is one of {sorted(SAMPLERS)}; got {options!r}.")
    parameters = inspect.signature(SAMPLERS[name]).parameters
    accepted = [*parameters][1:]
    for option, value in options.items():
        if option == "type":
            continue
        if option not in accepted:
            raise ValueError(f"Sampling {name!r} has no option {option!r}; it accepts {accepted}.")
        counts = parameters[option].annotation is int
        is_number = isinstance(value, int) or (not counts and isinstance(value, float))
        if isinstance(value, bool) or not is_number or not value > 0:
            rule = "a positive integer" if counts else "a positive number"
            raise ValueError(f"`sampling.{option}` must be {rule}; got {value!r}.")
        if counts and value > MAX_SAMPLED:
            raise ValueError(f"`sampling.{option}` must be at most {MAX_SAMPLED} frames; got {value}.")


def all_sampling_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a sampler, with defaults for those that are not given.

    Example:
        >>> all_sampling_options({"type": "linspace", "num_frames": 8})
        {'num_frames': 8, 'max_seconds': 60, 'type': 'linspace'}
    """
    parameters = inspect.signature(SAMPLERS[options["type"]]).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY} | dict(options)


def frame_range(clip: Clip, start: float | None = None, end: float | None = None) -> tuple[int, int]:
    """Return the first and the last frame between two seconds, both included, as VideoLLaMA 2 counts them.

    Negative seconds become 0, swapped ones are swapped back, and equal ones become one second. Like the source, the
    function subtracts one from the first frame too.

    Example:
        >>> frame_range(Clip(100, fps=10), 2, 5)
        (19, 49)
    """
    if start is None and end is None:
        return 0, clip.num_frames - 1
    rate = clip.rate()
    first = 0.0 if start is None else max(float(start), 0.0)
    last = clip.num_frames / rate if end is None else max(float(end), 0.0)
    if first > last:
        first, last = last, first
    elif first == last:
        last = first + 1
    begin = min(max(int(first * rate) - 1, 0), clip.num_frames - 1)
    return begin, max(begin, min(int(last * rate) - 1, clip.num_frames - 1))


def sample(
    options: Mapping[str, Any], clip: Clip, *, start: float | None = None, end: float | None = None
) -> list[int]:
    """Return the chosen frames of a clip, counted from 0.

    Args:
        options: `{"type": name, option: value, ...}`, with a name of `SAMPLERS`.
        clip: The video.
        start: Second at which the clip begins.
        end: Second at which the clip ends.

    Returns:
        At least one frame, in order; a frame may occur more than once.

    Raises:
        ValueError: If an option is unknown, or the sampler needs the frame rate and it is unknown.
    """
    check_sampling(options)
    first, last = frame_range(clip, start, end)
    times = None if clip.times is None else [time - clip.times[first] for time in clip.times[first : last + 1]]
    part = (
        clip if (first, last) == (0, clip.num_frames - 1) else replace(clip, num_frames=last - first + 1, times=times)
    )
    chosen = {name: value for name, value in options.items() if name != "type"}
    return [first + index for index in SAMPLERS[options["type"]](part, **chosen)]
