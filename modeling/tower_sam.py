# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""SAM's image encoder as a high-res tower: one map per view, or a second one of an earlier layer.

Paper: Kirillov et al., "Segment Anything", arXiv:2304.02643.
Code: transformers, `models/sam/modeling_sam.py::SamVisionEncoder`; the weights keep its names. EAGLE @ fef95f1,
`sam_encoder.py`: the short neck and the unshuffle. LEO @ d2787c6: the full neck. transformers,
`models/unlimited_ocr`, of DeepSeek-OCR: the convolutions behind it, and views of any size. transformers,
`models/deepseek_vl_hybrid`: the second map.

Options, in `tower_options` of the tower's config:

- `neck`: `full`; `short` is its first convolution and norm (EAGLE); `none` gives the layers' own features.
- `downsample`: channels of 3x3 convolutions behind the neck, each of which halves the map; there is no activation
  (DeepSeek-OCR: 512 and 1024).
- `tap`: a layer, counted from 1, whose output, through a neck of its own of the same kind, is a map too: stage 1, and
  the last layer's stage 2 (DeepSeek-VL).
- `unshuffle`: r x r cells become the channels of one, channel slowest (EAGLE: 2).
- `input_size` and `resize`: the size at which views are encoded, and the rule that resizes them.
- `positions`: rule that fits the position table to views of another size than `image_size`: `bicubic_antialias`
  (DeepSeek-OCR) or `bicubic`; views are any whole number of patches then. None refuses another size. The relative
  positions of the global layers are resampled by SAM's own attention.

Shapes: T views, t pixels per side, E channels, s cells per side.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedConfig, SamVisionConfig
from transformers.models.sam.modeling_sam import SamLayerNorm, SamVisionEncoder, SamVisionNeck

from .image_resize import resize
from .module_gradients import graph_if_needed
from .part_options import one_of
from .tower_options import TowerError, cells_per_side, square, tower_options
from .tower_positions import interpolated_positions


def sam_options(config: PreTrainedConfig) -> SimpleNamespace:
    """Return the checked options of the tower.

    Raises:
        ValueError: If an option or its value is not accepted.
    """
    defaults: dict[str, Any] = {"neck": "full", "unshuffle": 1, "input_size": None, "resize": "corners"}
    options = tower_options(config, **defaults, downsample=(), positions=None, tap=None)
    one_of("tower_options.neck", options.neck, ("full", "short", "none"))
    if options.positions is not None:
        one_of("tower_options.positions", options.positions, ("bicubic", "bicubic_antialias"))
    widths = options.downsample
    if not isinstance(widths, list | tuple) or any(type(width) is not int or width < 1 for width in widths):
        raise TowerError(f"`tower_options.downsample` must be a list of numbers of channels; got {widths!r}.")
    if options.unshuffle < 1:
        raise TowerError(f"`tower_options.unshuffle` must be at least 1; got {options.unshuffle}.")
    if options.tap is not None and not 1 <= options.tap < config.num_hidden_layers:
        raise TowerError(
            f"`tower_options.tap` must be a layer before the last of {config.num_hidden_layers}, counted from 1; got "
            f"{options.tap}."
        )
    return options


class ShortNeck(nn.Module):
    """The first half of SAM's neck."""

    def __init__(self, config: SamVisionConfig) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(config.hidden_size, config.output_channels, kernel_size=1, bias=False)
        self.layer_norm1 = SamLayerNorm(config.output_channels, data_format="channels_first")

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map `(T, s, s, D) -> (T, E, s, s)`."""
        features: torch.Tensor = self.layer_norm1(self.conv1(hidden_states.permute(0, 3, 1, 2)))
        return features


class NoNeck(nn.Module):
    """No neck: moves the channels first."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map `(T, s, s, D) -> (T, D, s, s)`."""
        return hidden_states.permute(0, 3, 1, 2)


class Downsample(nn.Sequential):
    """3x3 convolutions of stride 2 behind the neck: a side of n cells becomes ceil(n / 2), once per convolution."""

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        sizes = zip((channels, *widths), widths, strict=False)
        super().__init__(
            *[nn.Conv2d(size, width, kernel_size=3, stride=2, padding=1, bias=False) for size, width in sizes]
        )


def build_neck(config: SamVisionConfig, kind: str) -> Any:
    """Build the neck that the option `neck` names."""
    return SamVisionNeck(config) if kind == "full" else ShortNeck(config) if kind == "short" else NoNeck()


class SamTower(SamVisionEncoder):
    """SAM's image encoder.

    Args:
        config: The `SamVisionConfig`.
    """

    encodes_views: bool = True
    # older transformers lists the inner attention, which would be placed apart from its residual
    _no_split_modules = ["SamVisionLayer"]  # noqa: RUF012
    _can_record_outputs: dict[str, Any] = {}  # noqa: RUF012  # a call of the encoder records the low-res tower alone

    def __init__(self, config: SamVisionConfig) -> None:
        super().__init__(config)
        self.options = sam_options(config)
        if self.options.neck != "full":
            self.neck = build_neck(config, self.options.neck)
        self.downsample = Downsample(neck_channels(config), self.options.downsample)
        if self.options.tap is not None:
            self.tap_neck = build_neck(config, self.options.neck)

    def get_input_embeddings(self) -> nn.Module:
        """Return the patch convolution, whose output gets a gradient where checkpointing needs one."""
        return self.patch_embed.projection

    @classmethod
    def is_custom_code(cls) -> bool:
        """Keep transformers from skipping SAM's own init rules."""
        return False

    @staticmethod
    def count_stages(config: PreTrainedConfig) -> int:
        """Return 1 for the last layer's map, and 1 more for that of the layer `tap`."""
        return 1 if sam_options(config).tap is None else 2

    @staticmethod
    def stage_shape(config: PreTrainedConfig, stage: int, tile: int) -> tuple[int, int]:
        """Return (channels, cells per side) of the map of a view of `tile` pixels."""
        options = sam_options(config)
        size = square(config, "image_size")
        if (options.input_size or tile) != size and options.positions is None:
            raise TowerError(
                f"Tower 'sam_vision_model' encodes views of its `image_size`, {size} pixels; high-res views have "
                f"{options.input_size or tile}. Set `input_size` in its `tower_options` to {size}, or `positions` to "
                "'bicubic_antialias' for views of any whole number of patches."
            )
        unshuffle, channels = options.unshuffle, (neck_channels(config), *options.downsample)[-1]
        if not options.downsample:
            side = cells_per_side(config, tile, patch=square(config, "patch_size"), unshuffle=unshuffle)
            return channels * unshuffle**2, side
        side = cells_per_side(config, tile, patch=square(config, "patch_size"))
        for _ in options.downsample:
            side = -(-side // 2)
        if side % unshuffle:
            raise TowerError(
                f"`tower_options.unshuffle` must divide the {side} cells per side of the map; got {unshuffle}."
            )
        return channels * unshuffle**2, side // unshuffle

    @graph_if_needed
    def forward(self, views: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:  # type: ignore[override]
        """Encode views `(T, 3, t, t)`: one map `(T, E, s, s)`, or with `tap` one per stage."""
        own = square(self.config, "image_size")
        size = own if self.options.positions is None else self.options.input_size or views.shape[-1]
        views = resize(views, (size, size), self.options.resize)
        projection = self.patch_embed.projection  # the module around it takes its own size alone
        hidden_states = projection(views.to(projection.weight.dtype)).permute(0, 2, 3, 1)
        if self.pos_embed is not None:
            hidden_states = hidden_states + self.positions((hidden_states.shape[1], hidden_states.shape[2]))
        maps = []
        for number, layer in enumerate(self.layers, start=1):
            hidden_states = layer(hidden_states)
            if number == self.options.tap:
                maps.append(self.downsample(self.tap_neck(hidden_states)))
        maps.append(self.downsample(self.neck(hidden_states)))
        maps = [F.pixel_unshuffle(features, self.options.unshuffle) for features in maps]
        return maps[0] if len(maps) == 1 else tuple(maps)

    def positions(self, grid: tuple[int, int]) -> torch.Tensor:
        """Return the position table `(1, rows, cols, D)`, resampled for another grid than its own."""
        table = cast(torch.Tensor, self.pos_embed)
        if table.shape[1:3] == grid:
            return table
        antialias = self.options.positions == "bicubic_antialias"
        return interpolated_positions(table[0].flatten(0, 1), grid, antialias=antialias).unflatten(0, grid)[None]


def neck_channels(config: PreTrainedConfig) -> int:
    """Return the channels behind the neck."""
    return int(config.hidden_size if sam_options(config).neck == "none" else config.output_channels)
