# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Base of the fusions that join the towers after the last layer."""

import torch
from torch import nn

from .configuration_fila import FilaConfig
from .view_layout import ViewLayout


class FusionAtEnd(nn.Module):
    """A fusion without taps; by default it keeps the low-res tower's width and patch grid.

    Args:
        config: The `FilaConfig`.
        final_stages: Groups of stages of the high-res tower that `finish` reads.
    """

    taps: tuple[tuple[int, int], ...] = ()
    final_stages: tuple[tuple[int, ...], ...]
    output_size: int
    output_grid: tuple[int, int]
    joins_views = False
    needs_high_res_tower = True
    takes_cls = False
    takes_unequal_views = False
    tokens_are_places = True

    def __init__(self, config: FilaConfig, *final_stages: tuple[int, ...]) -> None:
        super().__init__()
        self.final_stages = final_stages
        self.output_size = config.vision_config.hidden_size
        self.output_grid = config.patch_grid

    def fuse(self, tap: int, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """Raise an error: a fusion without taps has nothing to fuse here."""
        raise AssertionError("a fusion without taps was asked to fuse")

    def finish(self, low: torch.Tensor, maps: tuple[torch.Tensor, ...], layout: ViewLayout) -> torch.Tensor:
        """Join the towers; see `Fusion.finish`."""
        raise NotImplementedError
