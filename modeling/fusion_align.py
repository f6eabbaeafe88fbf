# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Resize a view's part of a high-res map to the patch grid of the low-res tower.

FILA's sources say "by 2x2 convolution or interpolation" without details (docs/decisions.md).

Shapes: T views, E channels, s cells per side of the square, g patches per side.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init

from .configuration_fila import FilaConfig
from .image_resize import resize, resize_corners, resize_edges
from .part_options import one_of
from .towers import count_stages, locate_stage, stage_shape

ALIGNMENTS = ("conv", "pool", "bilinear", "corners")


def overlap_matrix(
    start: float | torch.Tensor, stop: float | torch.Tensor, size: int, length: int, like: torch.Tensor
) -> torch.Tensor:
    """Return weights that average the cells of the interval [`start`, `stop`] into `size` equal bins.

    Args:
        start: First edge, in cells; may be fractional.
        stop: Last edge, in cells; greater than `start`.
        size: Number of bins.
        length: Cells of the axis.
        like: Tensor on the device of the result.

    Returns:
        `(size, length)` float64; each row sums to 1 and holds the share of the bin that each cell covers.
    """
    edges = torch.linspace(start, stop, size + 1, device=like.device, dtype=torch.float64)
    cells = torch.arange(length, device=like.device, dtype=torch.float64)
    upper = torch.minimum(edges[1:, None], cells + 1)
    lower = torch.maximum(edges[:-1, None], cells)
    overlap = (upper - lower).clamp(min=0)
    return overlap / overlap.sum(dim=1, keepdim=True)


def area_resample(
    features: torch.Tensor, box: tuple[float, float, float, float], size: tuple[int, int]
) -> torch.Tensor:
    """Average the cells of a box into a grid, by exact area.

    Args:
        features: `(E, h, w)` float.
        box: (top, left, bottom, right) in cells, inside the map; may be fractional.
        size: (rows, cols) of the result.

    Returns:
        `(E, rows, cols)`, dtype of `features`.
    """
    top, left, bottom, right = box
    rows, cols = size
    if all(float(edge).is_integer() for edge in box):
        cut = features[:, int(top) : int(bottom), int(left) : int(right)]
        height, width = cut.shape[1:]
        if (height, width) == (rows, cols):
            return cut
        if height % rows == 0 and width % cols == 0:
            return F.avg_pool2d(cut[None], kernel_size=(height // rows, width // cols))[0]
    wide = torch.promote_types(features.dtype, torch.float32)
    by_row = overlap_matrix(top, bottom, rows, features.shape[1], features).to(wide)
    by_col = overlap_matrix(left, right, cols, features.shape[2], features).to(wide)
    return (by_row @ features.to(wide) @ by_col.T).to(features.dtype)


def stack_stages(maps: Sequence[torch.Tensor]) -> torch.Tensor:
    """Resize maps `(N, E_i, h_i, w_i)` of several stages to the size of the first and stack their channels."""
    height, width = maps[0].shape[-2:]
    return torch.cat([resize_edges(features, (height, width)) for features in maps], dim=1)


def interpolate_box(
    features: torch.Tensor, box: tuple[float, float, float, float], size: tuple[int, int]
) -> torch.Tensor:
    """Shrink the cells of a box to a grid by `resize_edges`, as Mini-Gemini shrinks the map of the whole image.

    Args:
        features: `(E, h, w)` float.
        box: (top, left, bottom, right) in cells; a cell that the box touches counts whole.
        size: (rows, cols) of the result.

    Returns:
        `(E, rows, cols)`, dtype of `features`.
    """
    top, left, bottom, right = math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])
    return resize_edges(features[None, :, top:bottom, left:right], size)[0]


class MeanConv2d(nn.Conv2d):
    """A 2x2 stride-2 convolution that starts as the mean of its four cells, channel by channel."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, kernel_size=2, stride=2)

    def set_initial_weights(self, std: float) -> None:
        """Set the weight `(E, E, 2, 2)` to a quarter on the diagonal."""
        eye = torch.eye(self.in_channels, dtype=self.weight.dtype, device=self.weight.device)
        init.copy_(self.weight, (eye / 4)[:, :, None, None].expand(-1, -1, 2, 2))


class Align(nn.Module):
    """Resizes `(T, E, s, s)` to `(T, E, g, g)`.

    Args:
        kind: `conv`: 2x2 stride-2 convolutions, as in ConvNeXt's downsampling, until s is halved to g; starts as
            `pool`.
            `pool`: mean over equal areas. `bilinear`: antialiased interpolation. `corners`: `resize_corners`.
        channels: E.
        side: s, cells per side of a view's part of the map, as `stage_shape` computes it.
        grid: g.

    Raises:
        ValueError: If `kind` is unknown, or is `conv` and s is not g times a power of two.
    """

    def __init__(self, kind: str, *, channels: int, side: int, grid: int) -> None:
        super().__init__()
        one_of("fusion.align", kind, ALIGNMENTS)
        self.kind = kind
        self.grid = grid
        self.convs = nn.ModuleList()
        if kind == "conv":
            halvings = (side // grid).bit_length() - 1
            if side != grid * 2**halvings or side < grid:
                raise ValueError(
                    f"`fusion.align` 'conv' halves a view's {side}x{side} cells to {grid}x{grid} patches, so the "
                    "ratio must be a power of two. Use 'pool' or 'bilinear', or another `high_res_tile_size`."
                )
            self.convs.extend(MeanConv2d(channels) for _ in range(halvings))

    def forward(self, high: torch.Tensor) -> torch.Tensor:
        if self.kind == "conv":
            for conv in self.convs:
                high = conv(high)
        if self.kind == "conv" or high.shape[-1] == self.grid:
            return high
        if self.kind == "corners":
            return resize_corners(high, (self.grid, self.grid))
        if self.kind == "pool":
            side = high.shape[-1]
            flat = area_resample(high.flatten(0, 1), (0, 0, side, side), (self.grid, self.grid))
            return flat.unflatten(0, high.shape[:2])
        return resize(high, (self.grid, self.grid), "antialias")


class AlignedTokens(nn.Module):
    """Turns a high-res map into tokens on the patch grid: `Align`, then a 1x1 convolution to `width` channels.

    Args:
        kind: See `Align`.
        channels: E.
        side: s.
        grid: g.
        width: Channels of the tokens.
    """

    def __init__(self, kind: str, *, channels: int, side: int, grid: int, width: int) -> None:
        super().__init__()
        self.align = Align(kind, channels=channels, side=side, grid=grid)
        self.linear = nn.Linear(channels, width)

    def forward(self, high: torch.Tensor) -> torch.Tensor:
        """Map `(T, E, s, s) -> (T, g^2, width)`."""
        tokens: torch.Tensor = self.linear(self.align(high).flatten(2).transpose(1, 2))
        return tokens


def view_side(config: FilaConfig, stage: int) -> int:
    """Return the cells per side of one view's part of the map of stage `stage` (from 1).

    Raises:
        ValueError: If the stage does not divide the view's high-res square into whole cells.
    """
    return stage_shape(config, stage)[1]


def checked_stages(config: FilaConfig, name: str, stages: Sequence[int]) -> tuple[int, ...]:
    """Check an option that lists stages of the high-res towers.

    Args:
        config: The `FilaConfig`.
        name: Name of the option, for the message.
        stages: Counted from 1, through all high-res towers; must increase.

    Raises:
        ValueError: If the list is empty, a stage does not exist or the stages do not increase.
    """
    count = count_stages(config)
    found = list(stages)
    if not found or sorted(set(found)) != found or not 1 <= found[0] <= found[-1] <= count:
        rule, value = ("a stage", found[0]) if len(found) == 1 else ("increasing stages", found)
        raise ValueError(f"`fusion.{name}` must be {rule} of the high-res tower, 1..{count}; got {value}.")
    return tuple(found)


def map_shapes(config: FilaConfig, groups: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Return (channels, cells per side) of each map that a fusion's `finish` gets for its `final_stages`."""
    for group in groups:
        if len({locate_stage(config, stage)[0] for stage in group}) > 1:
            raise ValueError(f"Stages {list(group)} are stacked into one map; they must be of one high-res tower.")
    shapes = [[stage_shape(config, stage) for stage in group] for group in groups]
    return [(sum(channels for channels, _ in group), group[0][1]) for group in shapes]
