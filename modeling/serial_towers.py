# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Serial towers: the last map of the first high-res tower is the patch embedding of the low-res tower.

Paper: Wei et al., "DeepSeek-OCR: Contexts Optical Compression", arXiv:2510.18234.
Code: transformers, `models/unlimited_ocr/modeling_unlimited_ocr.py::UnlimitedOcrVisionModel`.

    map = tower_1(view)                        (T, D, g, g), D the width of the ViT
    h = [prefix ; map row by row] + positions, then the ViT's own norm and layers

The first tower encodes each view of the processor alone; further high-res towers do so too. A fusion can read the map
again: DeepSeek-OCR's `channel_concat` gives [ViT ; map]. Views of several sizes are encoded size by size.

Deviations: any high-res tower whose map has the ViT's width may come first, any ViT second.

Shapes: T views, S pixels per side, p pixels of a patch, L patches of the largest view, g cells per side, D width.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .configuration_fila import FilaConfig
from .fusion_align import stack_stages
from .tower_options import TowerError
from .towers import HIGH_RES_TOWERS, stage_shape
from .view_high_res import EncodedViews


class MapEmbedding(nn.Module):
    """Takes the place of a ViT's patch convolution, and returns the map that the ViT reads in place of pixels."""

    def __init__(self) -> None:
        super().__init__()
        # towers ask the convolution's weight for its dtype
        self.register_buffer("weight", torch.empty(0), persistent=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the map `(T, D, g, g)`."""
        return features


class StagedViews(EncodedViews):
    """The maps of a tower that encodes canvases in stages: here each view is a canvas."""

    def per_view(self, stages: Sequence[int], chunk: slice) -> torch.Tensor:
        """Return the maps `(T, E, s, s)` of `stages`, stacked, of the T views in `chunk`."""
        tower: Any = self.tower
        if chunk != self.chunk:
            self.maps, self.chunk = (tower.embed(self.views[chunk]),), chunk
        while len(self.maps) <= max(stages):
            self.maps += (tower.run_stages(self.maps[-1], len(self.maps) - 1, len(self.maps)),)
        return stack_stages([self.maps[stage] for stage in stages])


class SerialTowers:
    """The rules of a model with `low_res_views="high_res_map"`.

    Args:
        config: The `FilaConfig`.
        low_res_tower: Its low-res tower, which loses its patch convolution.

    Raises:
        TowerError: If the map has another width than the low-res tower.

    Attributes:
        stage: The stage whose map is read, counted from 1: the last of the first high-res tower.
    """

    def __init__(self, config: FilaConfig, low_res_tower: nn.Module) -> None:
        first, width = config.high_res_vision_config, config.vision_config.hidden_size
        self.patch_size = config.patch_size
        self.tile_size: int = config.tile_size
        self.stage = HIGH_RES_TOWERS[first.model_type].count_stages(first)
        channels, _ = stage_shape(config, self.stage)
        if channels != width:
            raise TowerError(
                f"With `low_res_views` 'high_res_map' the map of tower {first.model_type!r} is the patch embedding of "
                f"{config.vision_config.model_type!r}, so it must have its {width} channels; it has {channels}. Set "
                "the towers' widths alike."
            )
        replace_patch_embedding(low_res_tower)

    def maps_of(self, towers: Sequence[Any], views: torch.Tensor) -> list[EncodedViews]:
        """Return the maps of all high-res towers for views `(T, 3, S, S)`."""
        return [(EncodedViews if tower.encodes_views else StagedViews)(tower, views) for tower in towers]

    def encode(
        self,
        views: torch.Tensor,
        patch_grids: torch.Tensor | None,
        encode: Callable[[torch.Tensor], torch.Tensor],
        *,
        is_sharded: bool,
    ) -> torch.Tensor:
        """Encode views size by size.

        Args:
            views: `(T, 3, S, S)`, or `(T, 3, p, L * p)` with the patches of a view side by side.
            patch_grids: `(T, 2)` int, (rows, cols) of each view's patches; only with the second form.
            encode: Function from views of one size `(n, 3, h, w)` to features `(n, P, D)`.
            is_sharded: Whether every process must make the same calls: two, also where all views have one size.

        Returns:
            `(T, P, D)`, P of the largest view; rows beyond a view's features are zero.

        Raises:
            ValueError: If weights are sharded and the views have more than two sizes.
        """
        grids = [] if patch_grids is None else [(rows, cols) for rows, cols in patch_grids.tolist()]
        sizes = sorted(set(grids))
        if is_sharded and len(sizes) > 2:
            raise ValueError(
                f"Serial towers with sharded weights take views of at most two sizes; got {sizes} patches."
            )
        groups: list[tuple[list[int], torch.Tensor]] = [
            (numbers, whole_views(views[numbers], size, self.patch_size))
            for size in sizes
            for numbers in [[number for number, own in enumerate(grids) if own == size]]
        ] or [([*range(len(views))], views)]
        features = [encode(own) for _, own in groups]
        if is_sharded and len(groups) == 1:
            unread = encode(views.new_zeros(1, 3, self.tile_size, self.tile_size))
            features[0] = features[0] + unread[:0].sum()
        if len(features) == 1:
            return features[0]
        longest = max(own.shape[1] for own in features)
        padded = torch.cat([F.pad(own, (0, 0, 0, longest - own.shape[1])) for own in features])
        order = torch.tensor([number for numbers, _ in groups for number in numbers])
        return padded[order.argsort().to(padded.device)]


def replace_patch_embedding(tower: Any) -> None:
    """Replace the patch convolution of a ViT by a `MapEmbedding`."""
    convolution = tower.get_input_embeddings()
    for module in [*tower.modules()]:
        for name, child in module.named_children():
            if child is convolution:
                setattr(module, name, MapEmbedding())


def whole_views(packed: torch.Tensor, patch_grid: tuple[int, int], patch: int) -> torch.Tensor:
    """Put patches side by side in their places: `(n, 3, p, L * p)` becomes `(n, 3, rows * p, cols * p)`."""
    rows, cols = patch_grid
    cut = packed[..., : rows * cols * patch].unflatten(3, (rows, cols * patch))
    return cut.permute(0, 1, 3, 2, 4).flatten(2, 3)
