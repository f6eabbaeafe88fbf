# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Channel concatenation and a 1x1 convolution back to the low-res width.

Source: the Open-AutoGLM article on dynamic resolution (no paper, no repository), which names it without a formula.

    F = W [V ; align(map of each stage under the view's box)]         V: patch features of the low-res tower

Deviations: the article leaves the widths open; the result has the low-res width (our choice).

Shapes: T views, P patches, D low-res width, E width of a stage, s cells per side.
"""

import torch
from torch import nn

from .configuration_fila import FilaConfig
from .fusion_channel_concat import ChannelConcatFusion
from .view_layout import ViewLayout


class Concat1x1Fusion(ChannelConcatFusion):
    """Concatenates high-res stages to the low-res tower's output and mixes the channels of each patch.

    Args:
        config: The `FilaConfig`.
        stage: Stage of the high-res tower, counted from 1, or several; the last by default.
        align: Rule that resizes maps to the patch grid: `conv`, `pool`, `bilinear` or `corners`.

    Raises:
        ValueError: If a stage does not exist or the alignment is unknown or does not fit.
    """

    def __init__(self, config: FilaConfig, *, stage: int | list[int] | None = None, align: str = "bilinear") -> None:
        super().__init__(config, stage=stage, align=align)
        width: int = config.vision_config.hidden_size
        self.project = nn.Linear(self.output_size, width)
        self.output_size = width

    def finish(self, low: torch.Tensor, maps: tuple[torch.Tensor, ...], layout: ViewLayout) -> torch.Tensor:
        """Map `(low (T, P, D), maps (T, E, s, s)) -> (T, P, D)`."""
        mixed: torch.Tensor = self.project(self.concat(low, maps))
        return mixed
