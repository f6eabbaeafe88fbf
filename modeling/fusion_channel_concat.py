# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Channel concatenation after the last layer.

Paper: Shi et al., "Eagle: Exploring The Design Space for Multimodal LLMs with Mixture of Encoders", arXiv:2408.15998.

    F = [V ; align(square of one ConvNeXt stage that the view owns)]

Deviations: EAGLE brings every tower to one fixed grid; here the grid is the low-res tower's.

Shapes: T views, P patches, D low-res width, E width of the stage, s cells per side, g patches per side.
"""

from typing import Any

import torch
from torch import nn

from .align import Align, view_side


class ChannelConcatFusion(nn.Module):
    """Concatenates one high-res stage to the low-res tower's output.

    Args:
        config: The `FilaConfig`.
        stage: Stage of the high-res tower, counted from 1; the last by default.
        align: How a view's square of the map is brought to the patch grid: `conv`, `pool` or `bilinear`.

    Raises:
        ValueError: If the stage does not exist or the alignment is unknown or does not fit.
    """

    taps: tuple[tuple[int, int], ...] = ()

    def __init__(self, config: Any, *, stage: int | None = None, align: str = "bilinear") -> None:
        super().__init__()
        widths = config.high_res_vision_config.hidden_sizes
        stage = len(widths) if stage is None else stage
        if not 1 <= stage <= len(widths):
            raise ValueError(f"`fusion.stage` must be a stage of the high-res tower, 1..{len(widths)}; got {stage}.")
        self.final_stage: int | None = stage
        self.output_size: int = config.vision_config.hidden_size + widths[stage - 1]
        self.align = Align(align, channels=widths[stage - 1], side=view_side(config, stage), grid=config.patch_grid[0])

    def fuse(self, tap: int, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """Never called: there is no tap."""
        raise AssertionError("a fusion without taps was asked to fuse")

    def finish(self, low: torch.Tensor, high: torch.Tensor | None) -> torch.Tensor:
        """`(low (T, P, D), high (T, E, s, s)) -> (T, P, D + E)`."""
        assert high is not None
        return torch.cat([low, self.align(high.to(low.dtype)).flatten(2).transpose(1, 2)], dim=-1)
