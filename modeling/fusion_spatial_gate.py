# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Sum with a high-res stage whose cells are gated one by one.

Source: the Open-AutoGLM article on dynamic resolution (no paper, no repository), "spatial gate".

    H <- H sigmoid(w H + b)                  w: 1x1 convolution to one channel
    F = V + W align(H)                       V: patch features of the low-res tower

Deviations: the article gives the gate alone; projection and sum are our choice.

Shapes: T views, P patches, D low-res width, E width of the stage, s cells per side.
"""

import torch
from torch import nn

from .configuration_fila import FilaConfig
from .fusion_align import AlignedTokens, checked_stages, map_shapes
from .fusion_at_end import FusionAtEnd
from .towers import count_stages
from .view_layout import ViewLayout


class SpatialGate(nn.Module):
    """Scales each cell of a map by a gate computed from the cell's channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 1, kernel_size=1)

    def forward(self, high: torch.Tensor) -> torch.Tensor:
        """Map `(T, E, h, w) -> (T, E, h, w)`."""
        return high * torch.sigmoid(self.conv(high))


class SpatialGateFusion(FusionAtEnd):
    """Adds a gated high-res stage to the low-res tower's output.

    Args:
        config: The `FilaConfig`.
        stage: Stage of the high-res tower, counted from 1; the last by default.
        align: Rule that resizes the map to the patch grid: `conv`, `pool`, `bilinear` or `corners`.

    Raises:
        ValueError: If the stage does not exist or the alignment is unknown or does not fit.
    """

    def __init__(self, config: FilaConfig, *, stage: int | None = None, align: str = "bilinear") -> None:
        stage = count_stages(config) if stage is None else stage
        super().__init__(config, checked_stages(config, "stage", [stage]))
        ((width, side),) = map_shapes(config, self.final_stages)
        self.gate = SpatialGate(width)
        self.project = AlignedTokens(
            align, channels=width, side=side, grid=config.patch_grid[0], width=self.output_size
        )

    def finish(self, low: torch.Tensor, maps: tuple[torch.Tensor, ...], layout: ViewLayout) -> torch.Tensor:
        """Map `(low (T, P, D), map (T, E, s, s)) -> (T, P, D)`."""
        fused: torch.Tensor = low + self.project(self.gate(maps[0].to(low.dtype)))
        return fused
