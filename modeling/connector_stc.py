# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""VideoLLaMA 2's connectors: the frames of a clip are joined by a downsampling over time and space.

Paper: Cheng et al., "VideoLLaMA 2: Advancing Spatial-Temporal Modeling and Audio Understanding in Video-LLMs",
arXiv:2406.07476, section 2.2 and algorithm 1.
Code: DAMO-NLP-SG/VideoLLaMA2 @ c0bb03a, `videollama2/model/projector.py`; the weights keep its names.

    tokens = readout(s2(act(sample(s1(frames)))))      s1, s2: a RegStage per frame; in the order time, row, column

    stc           Conv3d, kernel = stride = downsample, one cell of padding on all three axes
    stc_v35       the same without padding                                          (the 2.1 models)
    stp           AvgPool3d, no weights
    spatial_conv  as stc, downsample 1 x 2 x 2, no RegStages
    spatial_pool  as stp, downsample 1 x 2 x 2, no RegStages

An image is a clip that repeats it `image_frames` times, as in the source.

Deviations: a clip longer than `frames_per_chunk` is processed in pieces; the result is the same, as windows do not
overlap. The source's `stc_v35` and `stp` fail on a clip shorter than a window, `spatial_conv` and `spatial_pool` where
the vision width is not the language model's; here both raise a clear error. The paper's 576 tokens for 8 frames of
24 x 24 patches are those of `stc_v35`; with padding there are 845.

Shapes: T views, F frames, P patches, (r, c) patch grid, D vision width, M language-model width.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .configuration_fila import FilaConfig
from .connector_regstage import RegStage
from .video_clips import Piece, Read, TimeWindow
from .view_patch_grid import Grid, blocks_of, one_grid


class WindowMean(nn.Module):
    """`AvgPool3d` with kernel = stride, for every dtype; cells beyond the last whole window are not seen."""

    def __init__(self, *window: int) -> None:
        super().__init__()
        self.window = window

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Pool `(T, C, F, r, c)`: each of the last three sides is divided by the window's side."""
        for axis, size in enumerate(self.window, start=2):
            maps = maps.narrow(axis, 0, maps.shape[axis] // size * size).unflatten(axis, (-1, size)).mean(axis + 1)
        return maps


class StcConnector(nn.Module):
    """Spatial-temporal convolution with padding.

    Args:
        config: The `FilaConfig`.
        input_size: Channels of the features.
        downsample: Frames, rows and columns that become one.
        depth: Blocks of each RegStage; 0 leaves them out.
        mlp_depth: Linear layers of the readout.
        image_frames: Number of frames in the clip made from an image.

    Raises:
        ValueError: If a number is out of range, or the widths differ and there are no RegStages.
    """

    name = "stc"
    pools = False
    padding = 1

    takes_unequal_views = False
    patch_block: int | None
    over_time = "clip"
    window: TimeWindow

    def __init__(
        self,
        config: FilaConfig,
        *,
        input_size: int,
        downsample: Sequence[int] = (2, 2, 2),
        depth: int = 4,
        mlp_depth: int = 2,
        image_frames: int = 8,
    ) -> None:
        super().__init__()
        width = config.text_config.hidden_size
        if len(downsample) != 3 or any(not isinstance(factor, int) or factor < 1 for factor in downsample):
            raise ValueError(
                f"`connector.downsample` must be three positive integers, (frames, rows, cols); got {downsample!r}."
            )
        counts = {"depth": (depth, 0), "mlp_depth": (mlp_depth, 1), "image_frames": (image_frames, 1)}
        for option, (value, least) in counts.items():
            if value < least:
                raise ValueError(f"`connector.{option}` must be at least {least}; got {value}.")
        if depth == 0 and input_size != width:
            raise ValueError(
                f"Connector {self.name!r} without RegStages needs features of the language model's width, {width}; "
                f"the fusion gives {input_size}. Set `connector.depth` to 1 or more, or choose 'stc'."
            )
        self.downsample = tuple(downsample)
        self.image_frames = image_frames
        time, rows, cols = self.downsample
        self.window = TimeWindow(time, time, self.padding, self.padding)
        in_blocks = rows == cols and not self.padding and self.window.steps(image_frames) == 1
        self.patch_block = rows if in_blocks else None
        self.s1 = RegStage(input_size, width, depth)
        sampler: nn.Module = WindowMean(time, rows, cols)
        if not self.pools:
            # `_sampled` pads time, because it knows the piece of the clip
            sampler = nn.Conv3d(
                width, width, (time, rows, cols), stride=(time, rows, cols), padding=(0, self.padding, self.padding)
            )
        self.sampler = nn.Sequential(sampler, nn.SiLU())
        self.s2 = RegStage(width, width, depth)
        layers: list[nn.Module] = [nn.Linear(width, width)]
        for _ in range(mlp_depth - 1):
            layers += [nn.GELU(), nn.Linear(width, width)]
        self.readout = nn.Sequential(*layers)

    def tokens_per_clip(self, num_frames: int, patch_grid: tuple[int, int]) -> int:
        """Return the number of tokens of a clip.

        Raises:
            ValueError: If the clip, or the grid, is smaller than a window.
        """
        steps = self.window.steps(num_frames)
        sides = [
            (side + 2 * self.padding - factor) // factor + 1
            for side, factor in zip(patch_grid, self.downsample[1:], strict=True)
        ]
        if steps < 1 or min(sides) < 1:
            least = tuple(max(1, factor - 2 * self.padding) for factor in self.downsample)
            raise ValueError(
                f"Connector {self.name!r} joins {self.downsample} frames, rows and columns, so a clip must have "
                f"at least {least}; got {(num_frames, *patch_grid)}. Sample more frames, or set "
                "`connector.downsample`."
            )
        return steps * sides[0] * sides[1]

    def tokens_per_tile(self, patch_grid: tuple[int, int]) -> int:
        """Return the number of tokens of an image, which is a clip of `image_frames` equal frames."""
        return self.tokens_per_clip(self.image_frames, patch_grid)

    def token_grid(self, patch_grid: tuple[int, int]) -> tuple[int, int] | None:
        """Return the grid of joined patches if an image is one step; None if some are left over or padded."""
        return blocks_of(patch_grid, self.patch_block)

    def clip(self, read: Read, num_frames: int, grid: Grid, frames_per_chunk: int | None = None) -> torch.Tensor:
        """Return the tokens `(N, M)` of one video; see `video_clips.py`."""
        shape = one_grid(self.name, grid)
        self.tokens_per_clip(num_frames, shape)
        tokens = []
        for piece in self.window.pieces(num_frames, frames_per_chunk):
            if piece.first == piece.last:  # padding alone
                conv: Any = self.sampler[0]
                maps_FMrc = conv.weight.new_zeros(0, conv.weight.shape[1], *shape)
            else:
                maps_FMrc = self.s1(read(piece.first, piece.last).transpose(1, 2).unflatten(2, shape))
            tokens.append(self._sampled(maps_FMrc[None], piece)[0])
        return torch.cat(tokens)

    def forward(self, features: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Map `(T, P, D)` to `(T, N, M)`; each view is an image."""
        maps_TMrc = self.s1(features.transpose(1, 2).unflatten(2, one_grid(self.name, grid)))
        clips = maps_TMrc[:, None].expand(-1, self.image_frames, -1, -1, -1)
        (piece,) = self.window.pieces(self.image_frames, None)
        return self._sampled(clips, piece)

    def _sampled(self, maps: torch.Tensor, piece: Piece) -> torch.Tensor:
        """Turn maps `(T, F, M, r, c)` after s1 into tokens `(T, N, M)`."""
        maps_TMFrc = F.pad(maps.transpose(1, 2), (0, 0, 0, 0, piece.before, piece.after))
        steps_TMSrc = self.sampler(maps_TMFrc)
        frames = steps_TMSrc.transpose(1, 2).flatten(0, 1)
        tokens: torch.Tensor = self.readout(self.s2(frames).flatten(2).transpose(1, 2))
        return tokens.unflatten(0, (maps.shape[0], -1)).flatten(1, 2)


class StcV35Connector(StcConnector):
    """Spatial-temporal convolution without padding; options as `StcConnector`."""

    name = "stc_v35"
    padding = 0


class StpConnector(StcConnector):
    """Spatial-temporal pooling; options as `StcConnector`."""

    name = "stp"
    pools = True
    padding = 0


class SpatialConvConnector(StcConnector):
    """Convolution over space. Time is padded too: two more steps than frames, made of zeros only."""

    name = "spatial_conv"

    def __init__(
        self,
        config: FilaConfig,
        *,
        input_size: int,
        downsample: Sequence[int] = (1, 2, 2),
        depth: int = 0,
        mlp_depth: int = 2,
        image_frames: int = 8,
    ) -> None:
        super().__init__(
            config,
            input_size=input_size,
            downsample=downsample,
            depth=depth,
            mlp_depth=mlp_depth,
            image_frames=image_frames,
        )


class SpatialPoolConnector(SpatialConvConnector):
    """Pooling over space."""

    name = "spatial_pool"
    pools = True
    padding = 0
