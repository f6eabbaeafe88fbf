# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Learned embedding of a tile's position in the tile grid, added to all its tokens.

Source: ours, after a sentence of the Open-AutoGLM article on multi-resolution processing ("position encoding keeps the
relations between tiles"); it gives no formula.
"""

import torch
from torch import nn

from .configuration_fila import FilaConfig


class SlicePositions(nn.Module):
    """Adds row and column embeddings to the tokens of tiles, and a separate embedding to those of an overview.

    Args:
        config: The `FilaConfig`; `slice_positions` is the most rows and columns of tiles.
    """

    def __init__(self, config: FilaConfig) -> None:
        super().__init__()
        width = config.text_config.hidden_size
        self.size = config.slice_positions
        # Entry 0 is for the overview.
        self.row = nn.Embedding(self.size + 1, width)
        self.col = nn.Embedding(self.size + 1, width)

    def forward(self, tokens: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Add the embedding of each view's position to its tokens.

        Args:
            tokens: `(T, N, M)` float.
            places: `(T, 2)` int, (row, col) in the tile grid, -1 for an overview.

        Returns:
            `(T, N, M)`.

        Raises:
            ValueError: If a tile's row or column has no embedding.
        """
        if not torch.compiler.is_compiling() and int(places.max()) >= self.size:
            raise ValueError(
                f"`slice_positions` holds {self.size} rows and columns of tiles; an image has a tile at "
                f"(row, col) {tuple(places.max(dim=0).values.tolist())}. Choose a canvas of fewer tiles, or a model "
                "with more slice positions."
            )
        places = (places + 1).to(tokens.device)
        added: torch.Tensor = self.row(places[:, 0]) + self.col(places[:, 1])
        return tokens + added[:, None].to(tokens.dtype)
