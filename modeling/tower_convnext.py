# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""ConvNeXt tower (v1 and v2), run a stage at a time.

Papers: Liu et al., "A ConvNet for the 2020s", arXiv:2201.03545; Woo et al., "ConvNeXt V2", arXiv:2301.00808.
Code: transformers, `models/convnext` and `models/convnextv2`; the weights keep their names.

Deviations from transformers' classes, none in the arithmetic: each block can be checkpointed; stages that nothing
reads and the pooled norm do not exist; the pointwise layers see 3-D activations, because int8 linear layers accept no
more.

Shapes: N canvases, C channels, (h, w) cells of a stage's map.
"""

from typing import Any

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer


class ChannelLayerNorm(nn.LayerNorm):
    """LayerNorm over the channels of `(N, C, h, w)`."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        normed: torch.Tensor = super().forward(features.permute(0, 2, 3, 1))
        return normed.permute(0, 3, 1, 2)


class GlobalResponseNorm(nn.Module):
    """Global response normalisation of ConvNeXt V2 over `(N, h, w, C)`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1, 1, dim))
        self.bias = nn.Parameter(torch.zeros(1, 1, 1, dim))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        norm = torch.linalg.vector_norm(features, ord=2, dim=(1, 2), keepdim=True)
        scale = norm / (norm.mean(dim=-1, keepdim=True) + 1e-6)
        return self.weight * (features * scale) + self.bias + features


class ConvNextBlock(GradientCheckpointingLayer):
    """One residual block on `(N, C, h, w)`."""

    def __init__(self, config: Any, dim: int, drop_path: float) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, kernel_size=7, padding=3, groups=dim)
        self.layernorm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.act = ACT2FN[config.hidden_act]
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.drop_path = drop_path
        layer_scale = getattr(config, "layer_scale_init_value", 0)  # ConvNeXt V2 has none
        self.layer_scale_init_value = layer_scale
        self.layer_scale_parameter = nn.Parameter(layer_scale * torch.ones(dim)) if layer_scale > 0 else None
        self.grn = GlobalResponseNorm(4 * dim) if config.model_type == "convnextv2" else None

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        update = self.dwconv(features).permute(0, 2, 3, 1)
        cells = update.shape[1:3]
        update = self.act(self.pwconv1(self.layernorm(update).flatten(1, 2)))
        if self.grn is not None:
            update = self.grn(update.unflatten(1, cells)).flatten(1, 2)
        update = self.pwconv2(update)
        if self.layer_scale_parameter is not None:
            update = self.layer_scale_parameter * update
        update = update.unflatten(1, cells).permute(0, 3, 1, 2)
        if self.training and self.drop_path > 0:  # stochastic depth, arXiv:1603.09382
            keep = update.new_empty(update.shape[0], 1, 1, 1).bernoulli_(1 - self.drop_path)
            update = update * keep / (1 - self.drop_path)
        fused: torch.Tensor = features + update
        return fused


class ConvNextStage(nn.Module):
    """A downsampling layer (except in the first stage) and its blocks."""

    def __init__(self, config: Any, index: int, drop_path: list[float]) -> None:
        super().__init__()
        dim = config.hidden_sizes[index]
        self.downsampling_layer = nn.ModuleList()
        if index > 0:
            previous = config.hidden_sizes[index - 1]
            self.downsampling_layer.append(ChannelLayerNorm(previous, eps=1e-6))
            self.downsampling_layer.append(nn.Conv2d(previous, dim, kernel_size=2, stride=2))
        self.layers = nn.ModuleList(ConvNextBlock(config, dim, rate) for rate in drop_path)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        for layer in self.downsampling_layer:
            features = layer(features)
        for layer in self.layers:
            features = layer(features)
        return features


class ConvNextEmbeddings(nn.Module):
    """The stem: a patch convolution and a norm."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.patch_embeddings = nn.Conv2d(
            config.num_channels, config.hidden_sizes[0], kernel_size=config.patch_size, stride=config.patch_size
        )
        self.layernorm = ChannelLayerNorm(config.hidden_sizes[0], eps=1e-6)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        embedded: torch.Tensor = self.layernorm(self.patch_embeddings(pixel_values))
        return embedded


class ConvNextEncoder(nn.Module):
    """The stages; the tower runs them one by one."""

    def __init__(self, config: Any, num_stages: int) -> None:
        super().__init__()
        # The rates are those of the whole network, whatever part of it is kept.
        rates = torch.linspace(0, config.drop_path_rate, sum(config.depths), device="cpu").tolist()
        starts = [sum(config.depths[:i]) for i in range(len(config.depths) + 1)]
        self.stages = nn.ModuleList(
            ConvNextStage(config, i, rates[starts[i] : starts[i + 1]]) for i in range(num_stages)
        )


class ConvNextTower(nn.Module):
    """ConvNeXt without head, one stage at a time.

    Args:
        config: A `ConvNextConfig` or `ConvNextV2Config`.
        num_stages: Stages to keep, counted from the input.
    """

    def __init__(self, config: Any, num_stages: int) -> None:
        super().__init__()
        if not 1 <= num_stages <= len(config.depths):
            raise ValueError(
                f"The high-res tower has stages 1..{len(config.depths)}; the fusion reads stage {num_stages}."
            )
        self.config = config
        self.embeddings = ConvNextEmbeddings(config)
        self.encoder = ConvNextEncoder(config, num_stages)

    def stride(self, stage: int) -> int:
        """Pixels per cell and side of the map of `stage` (counted from 1)."""
        return int(self.config.patch_size * 2 ** (stage - 1))

    def embed(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Turn canvases `(N, 3, H, W)` into the input of the first stage."""
        embedded: torch.Tensor = self.embeddings(pixel_values.to(self.embeddings.patch_embeddings.weight.dtype))
        return embedded

    def run_stages(self, features: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """Run stages `start` (inclusive, from 0) to `stop` (exclusive) on `(N, C, h, w)`."""
        for stage in self.encoder.stages[start:stop]:
            features = stage(features)
        return features
