# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""RegNet stage of depthwise blocks, used by VideoLLaMA 2's connectors before and after their downsampling.

Paper: Radosavovic et al., "Designing Network Design Spaces" (RegNet), arXiv:2003.13678.
Code: huggingface/pytorch-image-models 1.0.3, `timm/models/regnet.py`: `RegStage`, `Bottleneck`, with stride 1, SiLU,
`LayerNorm2d` and timm's other defaults; the weights keep its names, `bn` for a norm too.

    y = norm(conv1x1(act(norm(depthwise3x3(act(norm(conv1x1(x))))) * gate)))
    gate = sigmoid(fc2(act(fc1(mean over the map))))        fc1 has a quarter of the block's *input* width
    out = act(y + x)                                        x through a 1x1 conv and a norm where the widths differ

Deviations: none. The norms have eps 1e-5: timm replaces `LayerNorm2d` (1e-6) by its fused class, with this default.

Shapes: T maps, (r, c) rows and columns, C channels.
"""

import torch
import torch.nn.functional as F
from torch import nn


class ChannelLayerNorm(nn.LayerNorm):
    """LayerNorm over the channels of `(T, C, r, c)`."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Normalise each position."""
        return super().forward(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNorm(nn.Module):
    """Convolution without bias and a norm, with SiLU after it unless `act` is False."""

    def __init__(
        self, input_size: int, output_size: int, kernel: int = 1, groups: int = 1, *, act: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(input_size, output_size, kernel, padding=kernel // 2, groups=groups, bias=False)
        self.bn = ChannelLayerNorm(output_size, eps=1e-5)
        self.act = act

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Map `(T, C, r, c) -> (T, C', r, c)`."""
        normed: torch.Tensor = self.bn(self.conv(maps))
        return F.silu(normed) if self.act else normed


class ChannelGate(nn.Module):
    """Squeeze and excitation: one factor per channel, computed from the map's mean."""

    def __init__(self, channels: int, hidden_size: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, hidden_size, 1)
        self.fc2 = nn.Conv2d(hidden_size, channels, 1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Scale `(T, C, r, c)`."""
        factors: torch.Tensor = self.fc2(F.silu(self.fc1(maps.mean(dim=(2, 3), keepdim=True)))).sigmoid()
        return maps * factors


class RegBlock(nn.Module):
    """One block; see the equation above."""

    def __init__(self, input_size: int, output_size: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(input_size, output_size)
        self.conv2 = ConvNorm(output_size, output_size, 3, groups=output_size)
        self.se = ChannelGate(output_size, max(1, round(input_size * 0.25)))
        self.conv3 = ConvNorm(output_size, output_size, act=False)
        self.downsample = ConvNorm(input_size, output_size, act=False) if input_size != output_size else None

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Map `(T, C, r, c) -> (T, C', r, c)`."""
        shortcut = maps if self.downsample is None else self.downsample(maps)
        return F.silu(self.conv3(self.se(self.conv2(self.conv1(maps)))) + shortcut)


class RegStage(nn.Module):
    """`depth` blocks in a row, named b1, b2, ...; the first changes the width."""

    def __init__(self, input_size: int, output_size: int, depth: int) -> None:
        super().__init__()
        for number in range(1, depth + 1):
            self.add_module(f"b{number}", RegBlock(input_size if number == 1 else output_size, output_size))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Map `(T, C, r, c) -> (T, C', r, c)`."""
        for block in self.children():
            maps = block(maps)
        return maps
