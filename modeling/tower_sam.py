# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""SAM's image encoder as a high-res tower: one map per view, or a second one of an earlier layer.

Paper: Kirillov et al., "Segment Anything", arXiv:2304.02643.
Code: transformers, `models/sam/modeling_sam.py::SamVisionEncoder`; the weights keep its names. EAGLE @ fef95f1,
`sam_encoder.py`: the short neck and the unshuffle. LEO @ d2787c6: the full neck. transformers,
`models/deepseek_vl_hybrid`: the second map.

Options, in `tower_options` of the tower's config:

- `neck`: `full`; `short` is its first convolution and norm (EAGLE); `none` gives the layers' own features.
- `tap`: a layer, counted from 1, whose output, through a neck of its own of the same kind, is a map too: stage 1, and
  the last layer's stage 2 (DeepSeek-VL).
- `unshuffle`: r x r cells become the channels of one, channel slowest (EAGLE: 2).
- `input_size` and `resize`: the size at which views are encoded, and the rule that resizes them. The size must be
  `image_size`, the size of the position table.

Shapes: T views, t pixels per side, E channels, s cells per side.
"""

from types import SimpleNamespace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedConfig, SamVisionConfig
from transformers.models.sam.modeling_sam import SamLayerNorm, SamVisionEncoder, SamVisionNeck

from .image_resize import resize
from .module_gradients import graph_if_needed
from .part_options import one_of
from .tower_options import TowerError, cells_per_side, square, tower_options


def sam_options(config: PreTrainedConfig) -> SimpleNamespace:
    """Return the checked options of the tower.

    Raises:
        ValueError: If an option or its value is not accepted.
    """
    options = tower_options(config, neck="full", tap=None, unshuffle=1, input_size=None, resize="corners")
    one_of("tower_options.neck", options.neck, ("full", "short", "none"))
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


def build_neck(config: SamVisionConfig, kind: str) -> Any:
    """Build the neck that the option `neck` names."""
    return SamVisionNeck(config) if kind == "full" else ShortNeck(config) if kind == "short" else NoNeck()


class SamTower(SamVisionEncoder):
    """SAM's image encoder.

    Args:
        config: The `SamVisionConfig`.
    """

    encodes_views: ClassVar[bool] = True
    # older transformers lists the inner attention, which would be placed apart from its residual
    _no_split_modules = ["SamVisionLayer"]  # noqa: RUF012
    _can_record_outputs: dict[str, Any] = {}  # noqa: RUF012  # a call of the encoder records the low-res tower alone

    def __init__(self, config: SamVisionConfig) -> None:
        super().__init__(config)
        self.options = sam_options(config)
        if self.options.neck != "full":
            self.neck = build_neck(config, self.options.neck)
        if self.options.tap is not None:
            self.tap_neck = build_neck(config, self.options.neck)

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
        if (options.input_size or tile) != size:
            raise TowerError(
                f"Tower 'sam_vision_model' encodes views of its `image_size`, {size} pixels; high-res views have "
                f"{options.input_size or tile}. Set `input_size` in its `tower_options` to {size}."
            )
        channels = config.hidden_size if options.neck == "none" else config.output_channels
        side = cells_per_side(config, tile, patch=square(config, "patch_size"), unshuffle=options.unshuffle)
        return channels * options.unshuffle**2, side

    @graph_if_needed
    def forward(self, views: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:  # type: ignore[override]
        """Encode views `(T, 3, t, t)`: one map `(T, E, s, s)`, or with `tap` one per stage."""
        size = square(self.config, "image_size")
        views = resize(views, (size, size), self.options.resize)
        hidden_states = self.patch_embed(views.to(self.patch_embed.projection.weight.dtype))
        if self.pos_embed is not None:
            hidden_states = hidden_states + self.pos_embed
        maps = []
        for number, layer in enumerate(self.layers, start=1):
            hidden_states = layer(hidden_states)
            if number == self.options.tap:
                maps.append(self.tap_neck(hidden_states))
        maps.append(self.neck(hidden_states))
        maps = [F.pixel_unshuffle(features, self.options.unshuffle) for features in maps]
        return maps[0] if len(maps) == 1 else tuple(maps)
