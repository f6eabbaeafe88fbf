# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Tables of the towers that a config can name by the `model_type` of its sub-configs."""

from typing import Any, Protocol

import torch
from torch import nn

from .tower_clip import ClipTower
from .tower_convnext import ConvNextTower, Maps


class LowResTower(Protocol):
    """Encodes views `(T, 3, S, S)` as tokens `(T, num_prefix_tokens + P, D)`, a group of layers at a time.

    Views of unequal size come as `(T, 3, p, L * p)`, their patches side by side, with their patch grids.
    """

    num_prefix_tokens: int
    num_layers: int

    def embed(self, pixel_values: torch.Tensor, patch_grids: torch.Tensor | None = None) -> torch.Tensor: ...

    def attention_mask(self, hidden_states: torch.Tensor, patch_grids: torch.Tensor | None) -> torch.Tensor | None: ...

    def run_layers(
        self,
        hidden_states: torch.Tensor,
        start: int,
        stop: int,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor: ...


class HighResTower(Protocol):
    """Encodes canvases `(N, 3, H, W)` as one map `(N, E, h, w)` per stage, a stage at a time.

    Canvases of several sizes come as a tuple and leave as a tuple of maps. Every module inside is called once for all
    of them, with one tensor: sharded training needs the same calls in every process.
    """

    def stride(self, stage: int) -> int: ...

    def embed(self, canvases: Maps) -> Maps: ...

    def run_stages(self, maps: Maps, start: int, stop: int) -> Maps: ...


LOW_RES_TOWERS: dict[str, type[ClipTower]] = {
    "clip_vision_model": ClipTower,
}
HIGH_RES_TOWERS: dict[str, type[ConvNextTower]] = {
    "convnext": ConvNextTower,
    "convnextv2": ConvNextTower,
}


def check_tower_types(config: Any) -> None:
    """Check that both towers of a `FilaConfig` are in the tables.

    Raises:
        ValueError: If a `model_type` is not; lists those that are.
    """
    tables = (("vision_config", LOW_RES_TOWERS), ("high_res_vision_config", HIGH_RES_TOWERS))
    for name, table in tables:
        tower = getattr(config, name)
        if tower is not None and tower.model_type not in table:
            raise ValueError(f"`{name}.model_type` must be one of {sorted(table)}; got {tower.model_type!r}.")


def build_low_res_tower(config: Any, num_layers: int) -> ClipTower:
    """Build the tower that `vision_config.model_type` names, with its first `num_layers` layers."""
    tower: ClipTower = LOW_RES_TOWERS[config.model_type]._from_config(config, num_layers=num_layers)
    return tower


def build_high_res_tower(config: Any, num_stages: int) -> nn.Module:
    """Build the tower that `high_res_vision_config.model_type` names, with its first `num_stages` stages."""
    return HIGH_RES_TOWERS[config.model_type](config, num_stages)
