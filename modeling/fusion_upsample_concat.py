# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Channel concatenation on the high-res grid: the low-res features are enlarged, as in a feature pyramid.

Source: the Open-AutoGLM article on dynamic resolution (no paper, no repository), "multi-scale concatenation".

    F = [H ; up(V)]          V: low-res patch features; up: bilinear, edges on edges, not antialiased

One token per high-res cell: with a stage of twice the patch grid's side, four times the tokens.

Deviations: none.

Shapes: T views, P patches, (r, c) patch grid, D low-res width, E width of the stage, s cells per side.
"""

import torch
import torch.nn.functional as F

from .configuration_fila import FilaConfig
from .fusion_align import checked_stages, map_shapes
from .fusion_at_end import FusionAtEnd
from .towers import count_stages
from .view_layout import ViewLayout


def upsample_concat(high: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
    """Map `(T, E, h, w), (T, D, r, c) -> (T, E + D, h, w)`."""
    enlarged = F.interpolate(low, size=high.shape[-2:], mode="bilinear", align_corners=False)
    return torch.cat([high, enlarged], dim=1)


class UpsampleConcatFusion(FusionAtEnd):
    """Concatenates the low-res tower's output, enlarged, to a high-res stage.

    Args:
        config: The `FilaConfig`.
        stage: Stage of the high-res tower, counted from 1; the last by default.

    Raises:
        ValueError: If the stage does not exist.
    """

    def __init__(self, config: FilaConfig, *, stage: int | None = None) -> None:
        stage = count_stages(config) if stage is None else stage
        super().__init__(config, checked_stages(config, "stage", [stage]))
        ((width, side),) = map_shapes(config, self.final_stages)
        self.patch_grid = config.patch_grid
        self.output_size += width
        self.output_grid = side, side

    def finish(self, low: torch.Tensor, maps: tuple[torch.Tensor, ...], layout: ViewLayout) -> torch.Tensor:
        """Map `(low (T, P, D), map (T, E, s, s)) -> (T, s^2, E + D)`."""
        low_TDrc = low.transpose(1, 2).unflatten(2, self.patch_grid)
        return upsample_concat(maps[0].to(low.dtype), low_TDrc).flatten(2).transpose(1, 2)
