# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""How a connector turns the frames of a video into tokens, in pieces of bounded memory.

A connector that joins frames has `over_time = "clip"` and

    clip(read, num_frames, grid, frames_per_chunk)   tokens of one video, `(N, M)`
    tokens_per_clip(num_frames, patch_grid)          N
    window                                           the frames that one step sees

`read(first, last)` gives the features `(last - first, P, D)` of some frames: the tower runs on them only then, so that
no more than a chunk is ever held. A connector with `over_time = "mean"` gets the mean of the frames' features, as
VideoLLaMA 2's `linear` and `mlp2x_gelu` do. One with `over_time = "each"` is applied frame by frame. Pieces are cut
where no window of the connector crosses, so that the result does not depend on them.

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
    """Frames that are read together, and the zero frames that stand beside them.

    Attributes:
        first, last: Frames [first, last) of the clip.
        before, after: Frames of zeros, where the windows of the clip's ends reach beyond it.
    """

    first: int
    last: int
    before: int
    after: int


@dataclass(frozen=True)
class TimeWindow:
    """What one step of the output sees along time: `size` frames, every `stride` frames.

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
        """Windows that fit; frames beyond the last one are not seen."""
        return max(0, (num_frames + self.before + self.after - self.size) // self.stride + 1)

    def pieces(self, num_frames: int, frames_per_chunk: int | None) -> Iterator[Piece]:
        """Cut a clip into pieces of whole windows.

        Args:
            num_frames: Of the clip.
            frames_per_chunk: Frames of a piece, about; None is one piece.
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
    """Whether a connector sees several frames at once."""
    return bool(connector.over_time != "each")


def tokens_per_clip(connector: "Connector", num_frames: int, patch_grid: tuple[int, int]) -> int:
    """Tokens of a video whose frames are one view each.

    Raises:
        ValueError: If the connector cannot take so few frames.
    """
    if connector.over_time == "mean":
        return int(connector.tokens_per_tile(patch_grid))
    if joins_frames(connector):
        return int(cast("ClipConnector", connector).tokens_per_clip(num_frames, patch_grid))
    return num_frames * int(connector.tokens_per_tile(patch_grid))


def clip_token_rule(connector: "Connector", patch_grid: tuple[int, int]) -> dict[str, int] | None:
    """How many tokens a clip becomes, for the processor's `clip_tokens`; None for a connector of single frames."""
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
    """Tokens of one video whose frames are one view each: `(N, M)`.

    Args:
        connector: Any connector.
        read: Features of frames [first, last), `(last - first, P, D)`.
        num_frames: F.
        grid: The patch grid of every frame.
        frames_per_chunk: Frames that are held at a time, about; None holds all.
    """
    if connector.over_time == "mean":
        return connector(mean_over_time(read, num_frames, frames_per_chunk), grid)[0]
    if joins_frames(connector):
        return cast("ClipConnector", connector).clip(read, num_frames, grid, frames_per_chunk)
    pieces = TimeWindow().pieces(num_frames, frames_per_chunk)
    return torch.cat([connector(read(piece.first, piece.last), grid).flatten(0, 1) for piece in pieces])


def mean_over_time(read: Read, num_frames: int, frames_per_chunk: int | None) -> torch.Tensor:
    """Mean of the frames' features, `(1, P, D)`; summed in float32 at least."""
    total: torch.Tensor | None = None
    for piece in TimeWindow().pieces(num_frames, frames_per_chunk):
        features = read(piece.first, piece.last)
        part = features.to(torch.promote_types(features.dtype, torch.float32)).sum(dim=0, keepdim=True)
        total = part if total is None else total + part
    assert total is not None
    return (total / num_frames).to(features.dtype)
