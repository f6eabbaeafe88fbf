# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Pixel shuffle connector: a block of patches becomes one image token.

Paper: Chen et al., "How Far Are We to GPT-4V?" (InternVL 1.5), arXiv:2404.16821.
Code: OpenGVLab/InternVL @ 2410d1d, `internvl_chat`: `pixel_shuffle`, `extract_feature`; Mozhgan91/LEO @ d2787c6.
Their `mlp1.{0,1,3}` (LEO's second tower: `mlp2`) are norm, linear_1 and linear_2 here.

    image token = W2 act(W1 norm([features of the block's patches]))

The orders place the features of a block differently; for blocks of 2 x 2 patches:

    v2              token (r, c) = [patch (0, 0); (0, 1); (1, 0); (1, 1)]
    v1              the same tokens, read column by column
    channel_first   token (r, c) channel by channel, of each the four patches: torch's `pixel_unshuffle` (LEO's SAM)

Deviations: none.

Shapes: T views, P patches, (r, c) patch grid, D vision width, M language-model width.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers.activations import ACT2FN

from .configuration_fila import FilaConfig
from .part_options import one_of
from .view_patch_grid import Grid, blocks_of

ORDERS = ("v1", "v2", "channel_first")


def pixel_shuffle(features: torch.Tensor, factor: int, order: str) -> torch.Tensor:
    """Stack the channels of each block of `factor` x `factor` patches.

    Args:
        features: `(T, r, c, D)`.
        factor: Patches per side of a block; divides r and c.
        order: `v1`, `v2` or `channel_first`, see above.

    Returns:
        `(T, r / factor, c / factor, D factor^2)`; with `v1` the first two sides change places.
    """
    if order == "channel_first":
        return F.pixel_unshuffle(features.permute(0, 3, 1, 2), factor).permute(0, 2, 3, 1)
    blocks = features.unflatten(2, (-1, factor)).unflatten(1, (-1, factor))
    shuffled = blocks.permute(0, 1, 3, 2, 4, 5).flatten(3)
    return shuffled.transpose(1, 2) if order == "v1" else shuffled


class PixelShuffleConnector(nn.Module):
    """InternVL's connector: one image token per block of patches.

    Args:
        config: The `FilaConfig`.
        input_size: Channels of the features.
        factor: Patches per side of a block.
        order: Order of a block's features: `v1`, `v2` (InternVL 1.2 and later) or `channel_first`.
        hidden_act: Activation between the two layers.

    Raises:
        ValueError: If the order or the activation is unknown, or the factor is not positive.
    """

    takes_unequal_views = True
    patch_block: int | None
    over_time = "each"

    def __init__(
        self, config: FilaConfig, *, input_size: int, factor: int = 2, order: str = "v2", hidden_act: str = "gelu"
    ) -> None:
        super().__init__()
        one_of("connector.order", order, ORDERS)
        if hidden_act not in ACT2FN:
            raise ValueError(
                f"`connector.hidden_act` must be an activation that transformers knows; got {hidden_act!r}."
            )
        if factor < 1:
            raise ValueError(f"`connector.factor` must be at least 1; got {factor}.")
        width = config.text_config.hidden_size
        self.factor = self.patch_block = factor
        self.order = order
        self.norm = nn.LayerNorm(input_size * factor**2)
        self.linear_1 = nn.Linear(input_size * factor**2, width)
        self.act = ACT2FN[hidden_act]
        self.linear_2 = nn.Linear(width, width)

    def tokens_per_tile(self, patch_grid: tuple[int, int]) -> int:
        """Return one image token per block.

        Raises:
            ValueError: If the grid does not divide into whole blocks.
        """
        rows, cols = patch_grid
        if rows % self.factor or cols % self.factor:
            raise ValueError(
                f"Connector 'pixel_shuffle' joins {self.factor}x{self.factor} patches, so both sides of the patch "
                f"grid must be multiples of {self.factor}; got {rows}x{cols}. Set `connector.factor`."
            )
        return (rows // self.factor) * (cols // self.factor)

    def token_grid(self, patch_grid: tuple[int, int]) -> tuple[int, int] | None:
        """Return the blocks' grid; None if the blocks are read column by column."""
        return None if self.order == "v1" else blocks_of(patch_grid, self.factor)

    def forward(self, features: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Map `(T, P, D)` to `(T, P / factor^2, M)`; where grids differ, P is that of the largest view."""
        if isinstance(grid, torch.Tensor):
            grids = [(int(rows), int(cols)) for rows, cols in grid.tolist()]
            blocks = [
                self._blocks(view[None, : math.prod(own)], own)[0] for view, own in zip(features, grids, strict=True)
            ]
            shuffled = pad_sequence(blocks, batch_first=True)
        else:
            shuffled = self._blocks(features, grid)
        tokens: torch.Tensor = self.linear_2(self.act(self.linear_1(self.norm(shuffled))))
        return tokens

    def _blocks(self, features: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Map `(T, P, D) -> (T, P / factor^2, D factor^2)`."""
        return pixel_shuffle(features.unflatten(1, grid), self.factor, self.order).flatten(1, 2)
