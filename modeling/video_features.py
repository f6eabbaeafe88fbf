# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Encode videos with the encoder and the connector, a bounded number of frames at a time.

The encoder treats a frame as an image. A connector that joins frames needs frames of one view each; other connectors
accept any canvas.

Shapes: W videos, F frames of the longest video, V views of a frame, N_w tokens of video w, M language-model width.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack, cast

import torch
from torch import nn
from transformers.utils import TransformersKwargs

from .image_tokens import PADDING, select_tokens
from .module_dtypes import at_entry
from .module_sharding import is_sharded
from .video_clips import Read, TimeWindow, clip_token_rule, clip_tokens, joins_frames, tokens_per_clip
from .view_layout import VIDEO_INPUTS
from .view_patch_grid import Grid

if TYPE_CHECKING:
    from .connector import Connector
    from .modeling_fila import FilaModel
    from .modeling_hybrid_encoder import FilaVisionModel


@dataclass(frozen=True)
class Video:
    """One video of a batch, without padding.

    Attributes:
        rows: One tensor per frame for each input of the encoder.
        starts: Number of the first view of each frame, counted over the video, and last the number of all views.
    """

    rows: dict[str, list[torch.Tensor]]
    starts: list[int]

    @property
    def num_frames(self) -> int:
        """Number of frames of the video."""
        return len(self.starts) - 1

    def part(self, first: int, last: int) -> dict[str, list[torch.Tensor]]:
        """Return the encoder's inputs for frames [first, last)."""
        return {name: rows[first:last] for name, rows in self.rows.items()}

    def grid(self, tower: "FilaVisionModel", first: int, last: int) -> Grid:
        """Return the grid of the features of the views of frames [first, last)."""
        if "patch_grids" not in self.rows:
            return tower.grid_of(None)
        views = [stop - start for start, stop in zip(self.starts, self.starts[1:], strict=False)]
        rows = zip(self.rows["patch_grids"][first:last], views[first:last], strict=True)
        return tower.grid_of(torch.cat([torch.as_tensor(grids)[:count] for grids, count in rows]))


def videos_of(inputs: dict[str, Any]) -> list[Video]:
    """Split a batch into its videos.

    Args:
        inputs: The tensors of `VIDEO_INPUTS`, or lists with one tensor per video; None for inputs that are not needed.

    Raises:
        ValueError: If an input is missing or a video has no frame.
    """
    given = {name: inputs[key] for name, key in VIDEO_INPUTS.items() if inputs.get(key) is not None}
    if missing := [VIDEO_INPUTS[name] for name in ("view_boxes", "tile_grid") if name not in given]:
        raise ValueError(f"`pixel_values_videos` came without {missing}. Pass everything the processor returns.")
    videos = []
    for number, boxes in enumerate(given["view_boxes"]):
        counts = [int(count) for count in torch.as_tensor(boxes).any(dim=-1).sum(dim=-1)]
        counts = counts[: sum(count > 0 for count in counts)]
        if not counts or 0 in counts:
            raise ValueError(
                f"Video {number} has no frame, or an empty one: its `video_view_boxes` hold {counts} views per frame. "
                "Pass the processor's output unchanged."
            )
        rows = {name: list(value[number][: len(counts)]) for name, value in given.items()}
        starts = [0]
        for count in counts:
            starts.append(starts[-1] + count)
        videos.append(Video(rows, starts))
    return videos


def video_features(
    model: "FilaModel", inputs: dict[str, Any], **kwargs: Unpack[TransformersKwargs]
) -> tuple[Any, list[torch.Tensor]]:
    """Encode the videos of a batch.

    Args:
        model: The `FilaModel`.
        inputs: The tensors of `VIDEO_INPUTS`, and `video_token_index` if placeholders have their own order.
        kwargs: Arguments of the encoder.

    Returns:
        The result of `encode_videos`, with tokens in the order of the placeholders.
    """
    videos = videos_of(inputs)
    for video in videos if model.slice_positions is not None else ():
        check_one_view(video, "A model with `slice_positions`, which videos do not send,")
    num_frames = sum(video.num_frames for video in videos)
    outputs, tokens = encode_videos(
        model.vision_tower,
        model.multi_modal_projector,
        videos,
        whole=model.training or num_frames <= model.frames_per_chunk or is_sharded(model.vision_tower),
        frames_per_chunk=model.frames_per_chunk,
        **kwargs,
    )
    if (order := inputs.get("video_token_index")) is not None:
        tokens = [
            select_tokens(own, index, model.image_newline, video, "video", model.view_separator)
            for video, (own, index) in enumerate(zip(tokens, order, strict=True))
        ]
    return outputs, tokens


def encode_videos(
    tower: "FilaVisionModel",
    connector: "Connector",
    videos: list[Video],
    *,
    whole: bool,
    frames_per_chunk: int,
    **kwargs: Unpack[TransformersKwargs],
) -> tuple[Any, list[torch.Tensor]]:
    """Return the tokens of each video.

    Args:
        tower: The hybrid encoder.
        connector: The connector.
        videos: The videos.
        whole: Whether all frames of all videos are encoded in one call.
        frames_per_chunk: Otherwise the number of frames that the encoder and the connector process at a time.
        kwargs: Arguments of the encoder.

    Returns:
        The encoder's output if it was called once, else None; and one `(N_w, M)` per video.
    """
    if not whole:
        chunked = [_of_tower(tower, video, kwargs) for video in videos]
        return None, [
            _tokens(connector, read, video, tower, frames_per_chunk)
            for read, video in zip(chunked, videos, strict=True)
        ]
    joined: dict[str, list[torch.Tensor]] = {}
    for video in videos:
        for name, rows in video.rows.items():
            joined.setdefault(name, []).extend(rows)
    outputs = tower(**joined, return_dict=True, **kwargs)
    features = outputs.last_hidden_state.split([video.starts[-1] for video in videos])
    return outputs, [
        _tokens(connector, _of_features(own, video), video, tower, None)
        for own, video in zip(features, videos, strict=True)
    ]


def _of_tower(tower: "FilaVisionModel", video: Video, kwargs: TransformersKwargs) -> Read:
    def read(first: int, last: int) -> torch.Tensor:
        features: torch.Tensor = tower(**video.part(first, last), return_dict=True, **kwargs).last_hidden_state
        return features

    return read


def _of_features(features: torch.Tensor, video: Video) -> Read:
    return lambda first, last: features[video.starts[first] : video.starts[last]]


def _tokens(
    connector: "Connector", read: Read, video: Video, tower: "FilaVisionModel", frames_per_chunk: int | None
) -> torch.Tensor:
    if isinstance(grid := video.grid(tower, 0, video.num_frames), torch.Tensor):
        read = _without_padding(read, int(grid.prod(-1).max()))
    if joins_frames(connector):
        check_one_view(video, "A connector that joins frames")
        return clip_tokens(connector, read, video.num_frames, _one(grid), frames_per_chunk)
    parts: list[torch.Tensor] = []
    for piece in TimeWindow().pieces(video.num_frames, frames_per_chunk):
        grid = video.grid(tower, piece.first, piece.last)
        views = connector(at_entry(cast(nn.Module, connector), read(piece.first, piece.last)), grid)
        parts += [view[:length] for view, length in zip(views, _lengths(connector, grid, len(views)), strict=True)]
    return torch.cat(parts)


def _without_padding(read: Read, length: int) -> Read:
    """Cut features to the `length` patches of this video's frames; other videos of the batch may have more."""
    return lambda first, last: read(first, last)[:, :length]


def _lengths(connector: "Connector", grid: Grid, num_views: int) -> Iterator[int]:
    grids = [tuple(own) for own in grid.tolist()] if isinstance(grid, torch.Tensor) else [grid] * num_views
    return (connector.tokens_per_tile(own) for own in grids)


def _one(grid: Grid) -> tuple[int, int]:
    if not isinstance(grid, torch.Tensor):
        return grid
    found = {(int(rows), int(cols)) for rows, cols in grid.tolist()}
    if len(found) != 1:
        raise ValueError(
            f"A connector that joins frames needs frames of one patch grid; a video has {sorted(found)}. Choose a "
            "canvas of equal views, for instance 'single'."
        )
    return found.pop()


def check_one_view(video: Video, who: str) -> None:
    """Check that every frame of a video is one view, because `who` needs it.

    Raises:
        ValueError: If a frame has more views.
    """
    most = max(stop - start for start, stop in zip(video.starts, video.starts[1:], strict=False))
    if most > 1:
        raise ValueError(
            f"{who} needs one view per frame; a video has frames of {most} views. Set the video processor's `canvas` "
            "to one without tiles, for instance 'single' or 'square_pad'."
        )


def video_lengths(connector: "Connector", tower: "FilaVisionModel", inputs: dict[str, Any]) -> list[int]:
    """Return the number of placeholders of each video of a batch."""
    if (index := inputs.get("video_token_index")) is not None:
        return [int((torch.as_tensor(row) != PADDING).sum()) for row in index]
    lengths = []
    for video in videos_of(inputs):
        grid = video.grid(tower, 0, video.num_frames)
        if joins_frames(connector):
            lengths.append(tokens_per_clip(connector, video.num_frames, _one(grid)))
        else:
            lengths.append(sum(_lengths(connector, grid, video.starts[-1])))
    return lengths


class VideoFeatures:
    """The functions of this file that a model calls."""

    clip_token_rule = staticmethod(clip_token_rule)
    features = staticmethod(video_features)
    lengths = staticmethod(video_lengths)
