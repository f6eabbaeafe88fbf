# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Weighted sum of scales: each tower's features times a softmax over learned scalars.

Source: the Open-AutoGLM article on dynamic resolution (no paper, no repository), "weighted fusion".

    F = sum_i softmax(w)_i X_i        X_0 = low-res features, X_i = W_i align(map of stage i under the view's box)

w starts at ones: F starts as the mean.

Deviations: the article's snippet creates w anew at every call, so nothing could be learned; here it is a parameter.

Shapes: T views, P patches, D low-res width, E width of a stage, s cells per side.
"""

from collections.abc import Sequence

import torch
from torch import nn
from transformers import initialization as init

from .configuration_fila import FilaConfig
from .fusion_align import AlignedTokens, checked_stages, map_shapes
from .fusion_at_end import FusionAtEnd
from .towers import count_stages
from .view_layout import ViewLayout


class ScaleSoftmax(nn.Module):
    """Sum of tensors of one shape, weighted by a softmax over one learned scalar per tensor."""

    def __init__(self, num_scales: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(num_scales))

    def set_initial_weights(self, std: float) -> None:
        """Set all scalars to one, so that the sum starts as the mean."""
        init.ones_(self.weights)

    def forward(self, scales: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the weighted sum, in the shape of one tensor."""
        shares = self.weights.softmax(dim=0)
        return torch.stack([share * scale for share, scale in zip(shares, scales, strict=True)]).sum(dim=0)


class ScaleSoftmaxFusion(FusionAtEnd):
    """Sums the low-res tower's output and high-res stages with learned shares.

    Args:
        config: The `FilaConfig`.
        stages: Stages of the high-res tower, counted from 1; the last by default.
        align: Rule that resizes maps to the patch grid: `conv`, `pool`, `bilinear` or `corners`.

    Raises:
        ValueError: If a stage does not exist or the alignment is unknown or does not fit.
    """

    def __init__(self, config: FilaConfig, *, stages: list[int] | None = None, align: str = "bilinear") -> None:
        last = count_stages(config)
        chosen = checked_stages(config, "stages", [last] if stages is None else stages)
        super().__init__(config, *[(stage,) for stage in chosen])
        self.project = nn.ModuleList(
            AlignedTokens(align, channels=width, side=side, grid=config.patch_grid[0], width=self.output_size)
            for width, side in map_shapes(config, self.final_stages)
        )
        self.scales = ScaleSoftmax(1 + len(chosen))

    def finish(self, low: torch.Tensor, maps: tuple[torch.Tensor, ...], layout: ViewLayout) -> torch.Tensor:
        """Map `(low (T, P, D), maps (T, E, s, s)) -> (T, P, D)`."""
        high = [project(map_.to(low.dtype)) for project, map_ in zip(self.project, maps, strict=True)]
        fused: torch.Tensor = self.scales([low, *high])
        return fused
