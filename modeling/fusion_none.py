# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""No fusion: the low-res tower alone."""

from typing import Any

import torch
from torch import nn


class NoFusion(nn.Module):
    """Passes the low-res tower's features on."""

    taps: tuple[tuple[int, int], ...] = ()
    final_stage: int | None = None

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.output_size: int = config.vision_config.hidden_size

    def fuse(self, tap: int, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """Never called: there is no tap."""
        raise AssertionError("a fusion without taps was asked to fuse")

    def finish(self, low: torch.Tensor, high: torch.Tensor | None) -> torch.Tensor:
        """`(T, P, D) -> (T, P, D)`, unchanged."""
        return low
