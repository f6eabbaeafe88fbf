# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Window Q-Former connector: a few queries read each window of the patch grid.

System: IBM, Granite 4 Vision (2026), built on BLIP-2's Q-Former (Li et al., arXiv:2301.12597).
Code: transformers, `models/granite4_vision/modeling_granite4_vision.py::Granite4VisionWindowQFormerDownsampler`; the
weights keep its names.

    y = norm(features)
    d = y on a grid q/w as fine: its mean over areas, or one corner of each block of 2 x 2
    image tokens of a window = W qformer(queries: query + d's cells of it; keys, values: y's cells of it + positions)

The windows are w x w patches, with q x q queries each. The tokens are read row by row over the whole view.

Deviations: none. The number of heads is 1 where the width is below 64.

Shapes: T views, P patches, (r, c) patch grid, D vision width, w patches and q queries per side of a window, M
language-model width.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel
from transformers import initialization as init

from .configuration_fila import FilaConfig
from .view_patch_grid import Grid, one_grid


class WindowQFormerConnector(nn.Module):
    """Granite 4 Vision's connector: q x q image tokens per window of w x w patches.

    Args:
        config: The `FilaConfig`.
        input_size: Channels of the features.
        query_side: q.
        window_side: w; a multiple of it fits each side of the patch grid.
        corner: Which patch of each block of 2 x 2 a query starts from: 0 top left, 1 top right, 2 bottom left, 3
            bottom right; None: from the mean over the area of its cell.
        num_layers: Layers of the Q-Former.
        intermediate_size: Width of its MLP's hidden layer.
        num_heads: Its attention heads; one per 64 channels by default.
        dropout: Share of the keys, of the output and inside the Q-Former that training drops.
        layer_norm_eps: Epsilon of the Q-Former's norms.

    Raises:
        ValueError: If a corner does not exist or needs another q, the heads do not divide the width, or a size is
            below 1.
    """

    takes_unequal_views = False
    patch_block: int | None = None
    over_time = "each"

    def __init__(
        self,
        config: FilaConfig,
        *,
        input_size: int,
        query_side: int = 4,
        window_side: int = 8,
        corner: int | None = None,
        num_layers: int = 1,
        intermediate_size: int = 3072,
        num_heads: int | None = None,
        dropout: float = 0.1,
        layer_norm_eps: float = 1e-12,
    ) -> None:
        super().__init__()
        heads = max(1, input_size // 64) if num_heads is None else num_heads
        if not 1 <= query_side <= window_side or min(num_layers, intermediate_size, heads) < 1:
            raise ValueError(
                "Connector 'window_qformer' needs 1 <= `query_side` <= `window_side`, and `num_layers`, "
                f"`intermediate_size` and `num_heads` of at least 1; got {query_side}, {window_side}, {num_layers}, "
                f"{intermediate_size} and {heads}."
            )
        if input_size % heads:
            raise ValueError(f"`connector.num_heads` must divide the features' width {input_size}; got {heads}.")
        if corner not in (None, 0, 1, 2, 3):
            raise ValueError(f"`connector.corner` must be 0, 1, 2, 3 or null; got {corner!r}.")
        if corner is not None and 2 * query_side != window_side:
            raise ValueError(
                "`connector.corner` takes one patch of each block of 2 x 2, which needs half as many queries as "
                f"patches per side of a window; got `query_side` {query_side} and `window_side` {window_side}."
            )
        self.query_side, self.window_side, self.corner = query_side, window_side, corner
        self.dropout = nn.Dropout(dropout)
        self.qformer = Blip2QFormerModel._from_config(
            Blip2QFormerConfig(
                hidden_size=input_size,
                encoder_hidden_size=input_size,
                num_hidden_layers=num_layers,
                num_attention_heads=heads,
                intermediate_size=intermediate_size,
                cross_attention_frequency=1,
                hidden_dropout_prob=dropout,
                attention_probs_dropout_prob=dropout,
                layer_norm_eps=layer_norm_eps,
            )
        )
        self.norm = nn.LayerNorm(input_size, eps=1e-6)
        self.query = nn.Parameter(torch.empty(1, query_side**2, input_size))
        self.image_positions = nn.Parameter(torch.empty(1, window_side**2, input_size))
        self.out_linear = nn.Linear(input_size, config.text_config.hidden_size)

    def set_initial_weights(self, std: float) -> None:
        """Draw queries and positions as Granite's class does."""
        for weight in (self.query, self.image_positions):
            init.normal_(weight, std=1 / math.sqrt(weight.shape[-1]))

    def tokens_per_tile(self, patch_grid: tuple[int, int]) -> int:
        """Return the number of queries of all windows.

        Raises:
            ValueError: If the grid does not divide into whole windows.
        """
        rows, cols = self._token_grid(patch_grid)
        return rows * cols

    def token_grid(self, patch_grid: tuple[int, int]) -> tuple[int, int] | None:
        """Return the grid of the queries of all windows."""
        return self._token_grid(patch_grid)

    def _token_grid(self, patch_grid: tuple[int, int]) -> tuple[int, int]:
        rows, cols = patch_grid
        side = self.window_side
        if rows % side or cols % side:
            raise ValueError(
                f"Connector 'window_qformer' reads windows of {side}x{side} patches, so both sides of the patch grid "
                f"must be multiples of {side}; got {rows}x{cols}. Set `connector.window_side`."
            )
        return rows // side * self.query_side, cols // side * self.query_side

    def forward(self, features: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Map `(T, P, D)` to `(T, P (q / w)^2, M)`."""
        rows, cols = self._token_grid(grid := one_grid("window_qformer", grid))
        patches = self.norm(features).unflatten(1, grid)
        if self.corner is None:
            starts = F.interpolate(patches.permute(0, 3, 1, 2), size=(rows, cols), mode="area").permute(0, 2, 3, 1)
        else:
            starts = patches[:, self.corner // 2 :: 2, self.corner % 2 :: 2]
        read = self.qformer(
            query_embeds=self.query + _windows(starts, self.query_side),
            encoder_hidden_states=self.dropout(_windows(patches, self.window_side) + self.image_positions),
            return_dict=True,
        ).last_hidden_state
        side = self.query_side
        windows = read.unflatten(1, (side, side)).unflatten(0, (len(features), rows // side, cols // side))
        tokens: torch.Tensor = self.out_linear(
            self.dropout(windows.transpose(2, 3).flatten(3, 4).flatten(1, 2).flatten(1, 2))
        )
        return tokens


def _windows(cells: torch.Tensor, side: int) -> torch.Tensor:
    """Return the cells of each window, `(T r c, side^2, D)`, of cells `(T, r side, c side, D)`."""
    return cells.unflatten(2, (-1, side)).unflatten(1, (-1, side)).transpose(2, 3).flatten(3, 4).flatten(0, 2)
