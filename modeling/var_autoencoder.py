# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Convolutional encoder and decoder of VQGAN's family, as in VAR's tokenizer.

Code: FoundationVision/VAR @ 78b9539, `models/basic_vae.py`, after CompVis/taming-transformers.

    encoder: conv, per level [res, attention?] x n, halve; middle: res, attention, res; norm, SiLU, conv
    decoder: the mirror image, n + 1 blocks per level, doubling in place of halving

Attention has one head and one fused projection; halving pads at the right and at the bottom only.

Deviations: attention runs in `scaled_dot_product_attention`.

Shapes: B images, C channels, (H, W) pixels, D code size, (h, w) = (H, W) / 2^(levels - 1).
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_var import VarVQConfig

NORM_EPS = 1e-6


def norm(config: VarVQConfig, channels: int) -> nn.GroupNorm:
    """Build the norm of a block."""
    return nn.GroupNorm(config.norm_groups, channels, eps=NORM_EPS)


class ResidualBlock(GradientCheckpointingLayer):
    """`(B, C, h, w) -> (B, D, h, w)`."""

    def __init__(self, config: VarVQConfig, channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1 = norm(config, channels)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.norm2 = norm(config, out_channels)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(channels, out_channels, 1) if channels != out_channels else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        update = self.conv1(F.silu(self.norm1(x)))
        update = self.conv2(self.dropout(F.silu(self.norm2(update))))
        summed: torch.Tensor = self.nin_shortcut(x) + update
        return summed


class MapAttention(nn.Module):
    """Attention among all cells: `(B, C, h, w) -> (B, C, h, w)`."""

    def __init__(self, config: VarVQConfig, channels: int) -> None:
        super().__init__()
        self.norm = norm(config, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        cells = self.qkv(self.norm(x)).flatten(2).transpose(1, 2)
        query, key, value = cells.chunk(3, dim=-1)
        read = F.scaled_dot_product_attention(query, key, value)
        summed: torch.Tensor = x + self.proj_out(read.transpose(1, 2).unflatten(2, x.shape[-2:]))
        return summed


class Halve(nn.Module):
    """`(B, C, h, w) -> (B, C, h / 2, w / 2)`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        halved: torch.Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return halved


class Double(nn.Module):
    """`(B, C, h, w) -> (B, C, 2 h, 2 w)`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        doubled: torch.Tensor = self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))
        return doubled


class Level(nn.Module):
    """The blocks of one resolution; the caller chooses the resizing after them."""

    def __init__(
        self, config: VarVQConfig, channels: int, out_channels: int, num_blocks: int, *, attention: bool
    ) -> None:
        super().__init__()
        self.block = nn.ModuleList(
            ResidualBlock(config, channels if index == 0 else out_channels, out_channels)
            for index in range(num_blocks)
        )
        self.attn = nn.ModuleList(MapAttention(config, out_channels) for _ in range(num_blocks if attention else 0))
        self.downsample: nn.Module = nn.Identity()
        self.upsample: nn.Module = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for index, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[index](x)
        resized: torch.Tensor = self.upsample(self.downsample(x))
        return resized


class Middle(nn.Module):
    """The blocks at the smallest map."""

    def __init__(self, config: VarVQConfig, channels: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(config, channels, channels)
        self.attn_1 = MapAttention(config, channels) if config.attention_in_middle else nn.Identity()
        self.block_2 = ResidualBlock(config, channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = self.block_2(self.attn_1(self.block_1(x)))
        return mixed


class Encoder(nn.Module):
    """`(B, 3, H, W) -> (B, D, h, w)`."""

    def __init__(self, config: VarVQConfig) -> None:
        super().__init__()
        widths = [config.base_channels * factor for factor in config.channel_multipliers]
        last = len(widths) - 1
        self.conv_in = nn.Conv2d(config.num_channels, config.base_channels, 3, padding=1)
        self.down = nn.ModuleList()
        for index, width in enumerate(widths):
            before = widths[index - 1] if index else config.base_channels
            attention = config.attention_in_last_level and index == last
            level = Level(config, before, width, config.num_res_blocks, attention=attention)
            if index < last:
                level.downsample = Halve(width)
            self.down.append(level)
        self.mid = Middle(config, widths[-1])
        self.norm_out = norm(config, widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], config.code_size, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.conv_in(images)
        for level in self.down:
            x = level(x)
        features: torch.Tensor = self.conv_out(F.silu(self.norm_out(self.mid(x))))
        return features


class Decoder(nn.Module):
    """`(B, D, h, w) -> (B, 3, H, W)`."""

    def __init__(self, config: VarVQConfig) -> None:
        super().__init__()
        widths = [config.base_channels * factor for factor in config.channel_multipliers]
        last = len(widths) - 1
        self.conv_in = nn.Conv2d(config.code_size, widths[-1], 3, padding=1)
        self.mid = Middle(config, widths[-1])
        self.up = nn.ModuleList()  # stored from the largest map to the smallest, run in reverse
        for index, width in enumerate(widths):
            before = widths[min(index + 1, last)]
            attention = config.attention_in_last_level and index == last
            level = Level(config, before, width, config.num_res_blocks + 1, attention=attention)
            if index > 0:
                level.upsample = Double(width)
            self.up.append(level)
        self.norm_out = norm(config, widths[0])
        self.conv_out = nn.Conv2d(widths[0], config.num_channels, 3, padding=1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        x = self.mid(self.conv_in(features))
        for level in reversed(self.up):
            x = level(x)
        images: torch.Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return images
