# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Tables of the towers that a config can name by the `model_type` of its sub-configs."""

from typing import Any, Protocol

import torch
from torch import nn

from .tower_clip import ClipTower
from .tower_convnext import ConvNextTower


class LowResTower(Protocol):
    """Encodes views `(T, 3, S, S)` as tokens `(T, num_prefix_tokens + P, D)`, a group of layers at a time."""

    num_prefix_tokens: int
    num_layers: int

    def embed(self, pixel_values: torch.Tensor) -> torch.Tensor: ...

    def run_layers(self, hidden_states: torch.Tensor, start: int, stop: int, **kwargs: Any) -> torch.Tensor: ...


class HighResTower(Protocol):
    """Encodes canvases `(N, 3, H, W)` as one map `(N, E, h, w)` per stage, a stage at a time."""

    def stride(self, stage: int) -> int: ...

    def embed(self, pixel_values: torch.Tensor) -> torch.Tensor: ...

    def run_stages(self, features: torch.Tensor, start: int, stop: int) -> torch.Tensor: ...


LOW_RES_TOWERS: dict[str, type[ClipTower]] = {
    "clip_vision_model": ClipTower,
}
HIGH_RES_TOWERS: dict[str, type[ConvNextTower]] = {
    "convnext": ConvNextTower,
    "convnextv2": ConvNextTower,
}


def build_low_res_tower(config: Any, num_layers: int) -> ClipTower:
    """Build the tower that `vision_config.model_type` names, with its first `num_layers` layers.

    Raises:
        ValueError: If no tower of that type exists.
    """
    if config.model_type not in LOW_RES_TOWERS:
        raise ValueError(
            f"`vision_config.model_type` must be one of {sorted(LOW_RES_TOWERS)}; got {config.model_type!r}."
        )
    return LOW_RES_TOWERS[config.model_type]._from_config(config, num_layers=num_layers)


def build_high_res_tower(config: Any, num_stages: int) -> nn.Module:
    """Build the tower that `high_res_vision_config.model_type` names, with its first `num_stages` stages.

    Raises:
        ValueError: If no tower of that type exists.
    """
    if config.model_type not in HIGH_RES_TOWERS:
        raise ValueError(
            f"`high_res_vision_config.model_type` must be one of {sorted(HIGH_RES_TOWERS)}; got {config.model_type!r}."
        )
    return HIGH_RES_TOWERS[config.model_type](config, num_stages)
