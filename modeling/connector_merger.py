# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Merger connector: a window of 2 x 2 features becomes one image token, by two layers of the window's width.

Paper: MiniCPM-V 4.6, LLaVA-UHD v4. Code: transformers,
`models/minicpmv4_6/modeling_minicpmv4_6.py::MiniCPMV4_6Merger`; the weights keep its names. The mergers of Qwen3-VL
(`models/qwen3_vl/modeling_qwen3_vl.py::Qwen3VLVisionPatchMerger`, with other names) are the same arithmetic: those of
its streams as here, its main one with the norm before the features are joined.

    image token = W2 gelu(W1 norm([f1; f2; f3; f4]))

With `times` above 1 the result of each merge but the last has the features' width, and is merged again.

Deviations: none.

Shapes: T views, P features of the largest view, D vision width, M language-model width.
"""

import torch
from torch import nn

from .configuration_fila import FilaConfig
from .view_patch_grid import Grid, blocks_of
from .view_windows import WINDOW, halved, windows


class Merge(nn.Module):
    """Maps the features of a window, side by side, to one.

    Args:
        input_size: D.
        output_size: Width of the result.
        norm_first: Whether each feature is normalised alone; by default the window is normalised as one vector.
    """

    def __init__(self, input_size: int, output_size: int, *, norm_first: bool = False) -> None:
        super().__init__()
        joined = WINDOW**2 * input_size
        self.pre_norm = nn.LayerNorm(input_size if norm_first else joined, eps=1e-6)
        self.norm_first = norm_first
        self.linear_1 = nn.Linear(joined, joined)
        self.act = nn.GELU()
        self.linear_2 = nn.Linear(joined, output_size)

    def forward(self, window: torch.Tensor) -> torch.Tensor:
        """Map `(..., 4, D)` to `(..., output_size)`."""
        x = self.pre_norm(window).flatten(-2) if self.norm_first else self.pre_norm(window.flatten(-2))
        merged: torch.Tensor = self.linear_2(self.act(self.linear_1(x)))
        return merged


class MergerConnector(nn.Module):
    """One image token per window of 2 x 2 features, or of 4 x 4 and more with `times`.

    Args:
        config: The `FilaConfig`.
        input_size: D.
        times: Merges one after the other.
        norm_first: See `Merge`.

    Raises:
        ValueError: If `times` is below 1.
    """

    takes_unequal_views = True
    patch_block: int | None
    over_time = "each"

    def __init__(self, config: FilaConfig, *, input_size: int, times: int = 1, norm_first: bool = False) -> None:
        super().__init__()
        if times < 1:
            raise ValueError(f"`connector.times` must be at least 1; got {times}.")
        widths = [*[input_size] * (times - 1), config.text_config.hidden_size]
        self.patch_block = WINDOW**times
        self.mlp = nn.ModuleList(Merge(input_size, width, norm_first=norm_first) for width in widths)

    def tokens_per_tile(self, patch_grid: tuple[int, int]) -> int:
        """Return one image token per block.

        Raises:
            ValueError: If the grid does not divide into whole blocks.
        """
        blocks = self.token_grid(patch_grid)
        if blocks is None:
            side = self.patch_block
            raise ValueError(
                f"Connector 'merger' joins {side}x{side} features, so both sides of the grid of features must be "
                f"multiples of {side}; got {patch_grid[0]}x{patch_grid[1]}. Set `connector.times`, or another size."
            )
        return blocks[0] * blocks[1]

    def token_grid(self, patch_grid: tuple[int, int]) -> tuple[int, int] | None:
        """Return the blocks' grid."""
        return blocks_of(patch_grid, self.patch_block)

    def forward(self, features: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Map `(T, P, D)` to `(T, P / 4, M)`; where grids differ, P is that of the largest view."""
        for merge in self.mlp:
            features, grid = merge(windows(features, grid)), halved(grid)
        return features
