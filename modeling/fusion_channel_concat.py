# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Channel concatenation after the last layer.

Paper: Shi et al., "Eagle: Exploring The Design Space for Multimodal LLMs with Mixture of Encoders", arXiv:2408.15998.
Code: NVlabs/EAGLE @ fef95f1, `multi_backbone_channel_concatenation_encoder.py`.

    F = [align(V) ; align(map of each stage under the view's box)]        on one grid; V: low-res patch features

EAGLE's alignment is `align="corners"` with its grid, `grid=32`: maps of another width are resized bilinearly with
aligned corners, in float32; maps of that width stay unchanged.

DeepSeek-OCR's [V ; map] of serial towers needs no alignment, and takes views of several sizes: V and the map that it
was made from have one grid, whatever the view.

Eagle2 stacks the 2 x 2 patches of each block of the low-res tower's map first, `shuffle=[2, 1]`, in the order of
InternVL's `v2`: patch (0, 0), (0, 1), (1, 0), (1, 1), of each all channels.

Deviations: the grid is the low-res tower's unless `grid` is set, and `bilinear` (antialiased) is the default: 64 cells
to 32 with aligned corners reads two cells of four.

Shapes: T views, P patches, D low-res width, E width of a stage, s cells per side, g patches per side.
"""

from collections.abc import Sequence

import torch
from torch import nn

from .configuration_fila import FilaConfig
from .fusion_align import Align, checked_stages, map_shapes
from .fusion_at_end import FusionAtEnd
from .towers import last_stages
from .view_layout import ViewLayout


def concat_channels(maps: Sequence[torch.Tensor]) -> torch.Tensor:
    """Stack aligned maps `(T, E_i, g, g)` along the channels, as tokens `(T, g^2, sum of E_i)`."""
    return torch.cat([features.flatten(2) for features in maps], dim=1).transpose(1, 2)


def stack_blocks(features: torch.Tensor, factor: int) -> torch.Tensor:
    """Stack the cells of each block of a map, patch by patch: `(T, E, s, s) -> (T, E factor^2, s / factor, ...)`."""
    if factor == 1:
        return features
    blocks = features.unflatten(3, (-1, factor)).unflatten(2, (-1, factor))
    return blocks.permute(0, 3, 5, 1, 2, 4).flatten(1, 3)


class ChannelConcatFusion(FusionAtEnd):
    """Concatenates stages of any number of high-res towers to the low-res tower's output.

    Args:
        config: The `FilaConfig`.
        stage: Stage of the high-res towers, counted from 1 through all of them, or several; the last of each tower by
            default.
        align: Rule that resizes maps to the grid: `conv`, `pool`, `bilinear` or `corners`.
        grid: Tokens per side of a view; the low-res tower's patches by default, or its blocks with `shuffle`.
        shuffle: Cells per side of the blocks that are stacked along the channels before the maps are aligned, for each
            map, the low-res tower's first; none by default.

    Raises:
        ValueError: If a stage does not exist, or the alignment or a block is unknown or does not fit.
    """

    def __init__(
        self,
        config: FilaConfig,
        *,
        stage: int | list[int] | None = None,
        align: str = "bilinear",
        grid: int | None = None,
        shuffle: list[int] | None = None,
    ) -> None:
        if stage is None:
            stage = last_stages(config)
        stages = checked_stages(config, "stage", [stage] if isinstance(stage, int) else stage)
        super().__init__(config, *[(number,) for number in stages])
        shapes = [(self.output_size, config.patch_grid[0]), *map_shapes(config, self.final_stages)]
        self.shuffle = [1] * len(shapes) if shuffle is None else list(shuffle)
        if len(self.shuffle) != len(shapes) or any(
            factor < 1 or side % factor for factor, (_, side) in zip(self.shuffle, shapes, strict=True)
        ):
            raise ValueError(
                "`fusion.shuffle` must have a whole divisor of the cells per side for each map, which are "
                f"{[side for _, side in shapes]}, the low-res tower's first; got {shuffle}."
            )
        shapes = [(width * by**2, side // by) for (width, side), by in zip(shapes, self.shuffle, strict=True)]
        grid = shapes[0][1] if grid is None else grid
        if grid < 1:
            raise ValueError(f"`fusion.grid` must be at least 1; got {grid}.")
        self.patch_grid = config.patch_grid
        self.output_size = sum(channels for channels, _ in shapes)
        self.output_grid = grid, grid
        self.align = nn.ModuleList(Align(align, channels=width, side=cells, grid=grid) for width, cells in shapes)
        own = config.has_serial_towers and set(self.shuffle) == {1}
        self.takes_unequal_views = own and len(shapes) == 2 and {s for _, s in shapes} == {grid}

    def concat(self, low: torch.Tensor, maps: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Map `(low (T, P, D), maps (T, E, s, s)) -> (T, g^2, D + sum of E)`."""
        if self.takes_unequal_views:  # of any size, none of which needs alignment
            return torch.cat([low, maps[0].to(low.dtype).flatten(2).transpose(1, 2)], dim=2)
        low_TDrc = low.transpose(1, 2).unflatten(2, self.patch_grid)
        features = [low_TDrc, *[features.to(low.dtype) for features in maps]]
        blocks = [stack_blocks(map_, by) for map_, by in zip(features, self.shuffle, strict=True)]
        return concat_channels([align(map_) for align, map_ in zip(self.align, blocks, strict=True)])

    def finish(self, low: torch.Tensor, maps: tuple[torch.Tensor, ...], layout: ViewLayout) -> torch.Tensor:
        """Map `(low (T, P, D), maps (T, E, s, s)) -> (T, g^2, D + sum of E)`."""
        return self.concat(low, maps)
