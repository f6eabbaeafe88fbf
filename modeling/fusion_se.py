# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Channel concatenation, weighted channel by channel by squeeze and excitation.

Source: the Open-AutoGLM article on dynamic resolution (no paper, no repository), which names it without a formula; the
gate is that of Hu et al., "Squeeze-and-Excitation Networks", arXiv:1709.01507, equations 2 to 4.

    C = [V ; align(map of each stage under the view's box)]     V: patch features of the low-res tower
    z = sigmoid(W_2 relu(W_1 mean over patches C))          one share per channel and view, in (0, 1)
    F = W (z C)

Deviations: the last projection to the low-res width is our choice.

Shapes: T views, P patches, D low-res width, E width of a stage, s cells per side, C all channels.
"""

import torch
from torch import nn

from .configuration_fila import FilaConfig
from .fusion_concat_1x1 import Concat1x1Fusion
from .view_layout import ViewLayout


class SqueezeExcitation(nn.Module):
    """Scales each channel by a gate computed from the means of all channels.

    Args:
        channels: C.
        reduction: Divisor of the hidden width; at least one channel is left.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map `(T, P, C) -> (T, P, C)`."""
        shares = torch.sigmoid(self.excite(torch.relu(self.squeeze(tokens.mean(dim=1, keepdim=True)))))
        return tokens * shares


class SqueezeExcitationFusion(Concat1x1Fusion):
    """Concatenates the channels, weighs them and projects them to the low-res width.

    Args:
        config: The `FilaConfig`.
        stage: Stage of the high-res tower, counted from 1, or several; the last by default.
        align: Rule that resizes maps to the patch grid: `conv`, `pool`, `bilinear` or `corners`.
        reduction: Divisor of the gate's hidden width.

    Raises:
        ValueError: If a stage does not exist, the alignment is unknown or does not fit, or the reduction is not
            positive.
    """

    def __init__(
        self,
        config: FilaConfig,
        *,
        stage: int | list[int] | None = None,
        align: str = "bilinear",
        reduction: int = 16,
    ) -> None:
        super().__init__(config, stage=stage, align=align)
        if reduction < 1:
            raise ValueError(f"`fusion.reduction` must be at least 1; got {reduction}.")
        self.gate = SqueezeExcitation(self.project.in_features, reduction)

    def finish(self, low: torch.Tensor, maps: tuple[torch.Tensor, ...], layout: ViewLayout) -> torch.Tensor:
        """Map `(low (T, P, D), maps (T, E, s, s)) -> (T, P, D)`."""
        mixed: torch.Tensor = self.project(self.gate(self.concat(low, maps)))
        return mixed
