# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Identity connector: the fusion already returns vectors of the language model's width.

LEO's towers have a connector each, before they are joined: `fusion={"type": "sequence_concat", "connectors": [...]}`.

Shapes: T views, P patches, M language-model width.
"""

import torch
from torch import nn

from .configuration_fila import FilaConfig
from .view_patch_grid import Grid


class IdentityConnector(nn.Module):
    """Returns the features unchanged.

    Args:
        config: The `FilaConfig`.
        input_size: Channels of the features.

    Raises:
        ValueError: If the features do not have the language model's width.
    """

    takes_unequal_views = True
    patch_block: int | None = 1
    over_time = "each"

    def __init__(self, config: FilaConfig, *, input_size: int) -> None:
        super().__init__()
        if input_size != config.text_config.hidden_size:
            raise ValueError(
                f"Connector 'identity' needs features of the language model's width, "
                f"{config.text_config.hidden_size}; the fusion gives {input_size}. Use 'linear' or 'mlp'."
            )

    def tokens_per_tile(self, patch_grid: tuple[int, int]) -> int:
        """Return one image token per feature."""
        return patch_grid[0] * patch_grid[1]

    def token_grid(self, patch_grid: tuple[int, int]) -> tuple[int, int] | None:
        """Return the features' grid."""
        return patch_grid

    def forward(self, features: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Return the features `(T, P, M)` unchanged."""
        return features
