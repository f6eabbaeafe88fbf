# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Turn the frames of a video into tokens, in pieces of bounded memory.

A connector that joins frames has `over_time = "clip"` and

    clip(read, num_frames, grid, frames_per_chunk)   tokens of one video, `(N, M)`
    tokens_per_clip(num_frames, patch_grid)          N
    window                                           the frames that one step sees

`read(first, last)` runs the tower on frames [first, last) and returns their features `(last - first, P, D)`, so that
only one chunk is in memory. A connector with `over_time = "mean"` gets the mean of the frames' features, as
VideoLLaMA 2's `linear` and `mlp2x_gelu` do. One with `over_time = "each"` is applied frame by frame. No window of the
connector crosses the border of two pieces, so that the result does not depend on the pieces.

Shapes: F frames, P patches, D vision width, N tokens of the clip, M language-model width.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, cast

import torch

from .view_patch_grid import Grid

if TYPE_CHECKING:
    from .connector import ClipConnector, Connector

Read = Callable[[int, int], torch.Tensor]


@dataclass(frozen=True)
class Piece:
    """Frames that are read together, and the zero frames around them.

    Attributes:
        first, last: Frames [first, last) of the clip.
        before, after: Frames of zeros, for windows that reach beyond the clip's ends.
    """

    first: int
    last: int
    before: int
    after: int


@dataclass(frozen=True)
class TimeWindow:
    """The frames that one step of the output sees: `size` frames, every `stride` frames.

    Attributes:
        size: Frames of a window.
        stride: Frames from one window to the next.
        before, after: Zero frames in front of the clip and behind it.
    """

    size: int = 1
    stride: int = 1
    before: int = 0
    after: int = 0

    def steps(self, num_frames: int) -> int:
        """Return the number of windows that fit; frames beyond the last window are not seen."""
        return max(0, (num_frames + self.before + self.after - self.size) // self.stride + 1)

    def pieces(self, num_frames: int, frames_per_chunk: int | None) -> Iterator[Piece]:
        """Cut a clip into pieces of whole windows.

        Args:
            num_frames: Frames of the clip.
            frames_per_chunk: Approximate number of frames per piece; None makes one piece.
        """
        steps = self.steps(num_frames)
        most = steps if frames_per_chunk is None else max(1, frames_per_chunk // self.stride)
        for start in range(0, steps, max(most, 1)):
            stop = min(start + most, steps)
            begin = start * self.stride - self.before
            end = (stop - 1) * self.stride - self.before + self.size
            first, last = max(begin, 0), min(end, num_frames)
            last = max(first, last)
            before = min(max(-begin, 0), end - begin)
            yield Piece(first, last, before, end - begin - before - (last - first))


def joins_frames(connector: "Connector") -> bool:
    """Return whether a connector reads several frames at once."""
    return bool(connector.over_time != "each")


def tokens_per_clip(connector: "Connector", num_frames: int, patch_grid: tuple[int, int]) -> int:
    """Return the number of tokens of a video whose frames are one view each.

    Raises:
        ValueError: If the connector needs more frames.
    """
    if connector.over_time == "mean":
        return int(connector.tokens_per_tile(patch_grid))
    if joins_frames(connector):
        return int(cast("ClipConnector", connector).tokens_per_clip(num_frames, patch_grid))
    return num_frames * int(connector.tokens_per_tile(patch_grid))


def clip_token_rule(connector: "Connector", patch_grid: tuple[int, int]) -> dict[str, int] | None:
    """Return the rule for a clip's tokens, for the processor's `clip_tokens`; None if frames are not joined."""
    if connector.over_time == "mean":
        return {"per_clip": int(connector.tokens_per_tile(patch_grid))}
    if not joins_frames(connector):
        return None
    joining = cast("ClipConnector", connector)
    window = joining.window
    frames = window.size  # a clip of a window has `steps(size)` steps
    per_step = int(joining.tokens_per_clip(frames, patch_grid)) // window.steps(frames)
    return {"per_step": per_step, **asdict(window)}


def clip_tokens(
    connector: "Connector", read: Read, num_frames: int, grid: Grid, frames_per_chunk: int | None = None
) -> torch.Tensor:
    """Return the tokens `(N, M)` of one video whose frames are one view each.

    Args:
        connector: Any connector.
        read: Function that returns the features `(last - first, P, D)` of frames [first, last).
        num_frames: F.
        grid: The patch grid of every frame.
        frames_per_chunk: Approximate number of frames in memory at a time; None holds all.
    """
    if connector.over_time == "mean":
        return connector(mean_over_time(read, num_frames, frames_per_chunk), grid)[0]
    if joins_frames(connector):
        return cast("ClipConnector", connector).clip(read, num_frames, grid, frames_per_chunk)
    pieces = TimeWindow().pieces(num_frames, frames_per_chunk)
    return torch.cat([connector(read(piece.first, piece.last), grid).flatten(0, 1) for piece in pieces])


def mean_over_time(read: Read, num_frames: int, frames_per_chunk: int | None) -> torch.Tensor:
    """Return the mean of the frames' features, `(1, P, D)`; the sum is float32 or wider."""
    total: torch.Tensor | None = None
    for piece in TimeWindow().pieces(num_frames, frames_per_chunk):
        features = read(piece.first, piece.last)
        part = features.to(torch.promote_types(features.dtype, torch.float32)).sum(dim=0, keepdim=True)
        total = part if total is None else total + part
    assert total is not None
    return (total / num_frames).to(features.dtype)
