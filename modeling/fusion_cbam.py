# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Channel concatenation, weighted by a channel gate and then by a spatial gate.

Source: the Open-AutoGLM article on dynamic resolution (no paper, no repository), which names it without a formula; the
gates are those of Woo et al., "CBAM: Convolutional Block Attention Module", arXiv:1807.06521, equations 2 and 3.

    C = [V ; align(map of each stage under the view's box)]       V: patch features of the low-res tower
    C <- sigmoid(MLP(mean over patches C) + MLP(max over patches C)) C
    C <- sigmoid(conv 7x7 [mean over channels C ; max over channels C]) C
    F = W C

Deviations: the last projection to the low-res width is our choice; the 7x7 convolution has a bias and no batch norm.

Shapes: T views, P patches, (r, c) patch grid, D low-res width, E width of a stage, s cells per side, C all channels.
"""

import torch
from torch import nn

from .configuration_fila import FilaConfig
from .fusion_concat_1x1 import Concat1x1Fusion
from .view_layout import ViewLayout


class ConvolutionalGate(nn.Module):
    """CBAM: channel gate, then spatial gate.

    Args:
        channels: C.
        reduction: Divisor of the channel gate's hidden width; at least one channel is left.
        grid: (rows, cols) of the patches.
        kernel_size: Patches per side of the spatial gate's convolution; odd.
    """

    def __init__(self, channels: int, reduction: int, grid: tuple[int, int], kernel_size: int) -> None:
        super().__init__()
        self.grid = grid
        hidden = max(1, channels // reduction)
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)
        self.conv = nn.Conv2d(2, 1, kernel_size=kernel_size, padding=kernel_size // 2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map `(T, P, C) -> (T, P, C)`."""
        pooled_T2C = torch.stack([tokens.mean(dim=1), tokens.amax(dim=1)], dim=1)
        excited = self.excite(torch.relu(self.squeeze(pooled_T2C)))
        tokens = tokens * torch.sigmoid(excited.sum(dim=1, keepdim=True))
        pooled_T2rc = torch.stack([tokens.mean(dim=2), tokens.amax(dim=2)], dim=1).unflatten(2, self.grid)
        return tokens * torch.sigmoid(self.conv(pooled_T2rc)).flatten(1)[..., None]


class CbamFusion(Concat1x1Fusion):
    """Concatenates, gates and brings the channels to the low-res width.

    Args:
        config: The `FilaConfig`.
        stage: Stage of the high-res tower, counted from 1, or several; the last by default.
        align: Rule that resizes maps to the patch grid: `conv`, `pool`, `bilinear` or `corners`.
        reduction: Divisor of the channel gate's hidden width.
        kernel_size: Patches per side of the spatial gate's convolution; odd.

    Raises:
        ValueError: If a stage does not exist, the alignment is unknown or does not fit, or a number does not fit.
    """

    def __init__(
        self,
        config: FilaConfig,
        *,
        stage: int | list[int] | None = None,
        align: str = "bilinear",
        reduction: int = 16,
        kernel_size: int = 7,
    ) -> None:
        super().__init__(config, stage=stage, align=align)
        if reduction < 1:
            raise ValueError(f"`fusion.reduction` must be at least 1; got {reduction}.")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"`fusion.kernel_size` must be odd and positive; got {kernel_size}.")
        self.takes_unequal_views = False
        self.gate = ConvolutionalGate(self.project.in_features, reduction, config.patch_grid, kernel_size)

    def finish(self, low: torch.Tensor, maps: tuple[torch.Tensor, ...], layout: ViewLayout) -> torch.Tensor:
        """Map `(low (T, P, D), maps (T, E, s, s)) -> (T, P, D)`."""
        mixed: torch.Tensor = self.project(self.gate(self.concat(low, maps)))
        return mixed
