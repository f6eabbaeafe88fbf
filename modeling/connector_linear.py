# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Linear connector.

Paper: Liu et al., "Visual Instruction Tuning" (LLaVA), arXiv:2304.08485.

    image token = W feature

Deviations: none.

Shapes: T views, P patches, D vision width, M language-model width.
"""

import torch
from torch import nn

from .configuration_fila import FilaConfig
from .part_options import one_of
from .view_patch_grid import OVER_TIME, Grid


class LinearConnector(nn.Module):
    """Return one image token per patch.

    Args:
        config: The `FilaConfig`.
        input_size: Channels of the features.
        bias: Whether the layer has a bias.
        over_time: `each`: every frame of a video gets tokens; `mean`: the mean of its frames does (VideoLLaMA 2).

    Raises:
        ValueError: If `over_time` is unknown.
    """

    takes_unequal_views = True
    patch_block: int | None = 1
    over_time: str

    def __init__(self, config: FilaConfig, *, input_size: int, bias: bool = True, over_time: str = "each") -> None:
        super().__init__()
        one_of("connector.over_time", over_time, OVER_TIME)
        self.over_time = over_time
        self.linear = nn.Linear(input_size, config.text_config.hidden_size, bias=bias)

    def tokens_per_tile(self, patch_grid: tuple[int, int]) -> int:
        """Return one image token per patch."""
        return patch_grid[0] * patch_grid[1]

    def token_grid(self, patch_grid: tuple[int, int]) -> tuple[int, int] | None:
        """Return the patch grid."""
        return patch_grid

    def forward(self, features: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Map `(T, P, D) -> (T, P, M)`."""
        tokens: torch.Tensor = self.linear(features)
        return tokens
