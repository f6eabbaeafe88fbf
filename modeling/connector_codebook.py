# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Codebook connector: a view becomes codes of growing grids, out of one codebook for all scales.

The quantiser is that of Tian et al., "Visual Autoregressive Modeling: Scalable Image Generation via Next-Scale
Prediction", arXiv:2404.02905. Passing its codes to a language model is our own idea.

    f = norm(W feature), averaged to the grid of the last scale
    z_k = area(f - fhat of the scales before, grid_k),  c_k = nearest codes
    image token = W' (c_k + z_k - sg(z_k)) + e_k            coarse to fine, row by row

The first scales are a budget: their codes do not change when more scales follow. The gradient of a token reaches its
code, as with any embedding, and passes through it to the features; there is no further loss.

Deviations from VAR: no phi, because no token's gradient would reach its weights.

Shapes: T views, P patches, D vision width, C code size, K scales that are read, N their patches, M language-model
width.
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init

from .configuration_fila import FilaConfig
from .var_quantizer import FilaMultiScaleQuantizer
from .view_patch_grid import Grid

CODE_STD = 0.5  # deviation of new codes; the vectors that are looked up have a deviation near 1


class CodebookConnector(nn.Module):
    """Codebook connector; every view has the same number of image tokens.

    Args:
        config: The `FilaConfig`.
        input_size: Channels of the features.
        codebook_size: Number of codes.
        code_size: C.
        patch_nums: Patches per side of each scale.
        num_scales: Number of scales to read, from the first; all by default.
        normalize_codes: Whether codes are looked up by direction.

    Raises:
        ValueError: If a size is not positive or `num_scales` is more than there are.
    """

    takes_unequal_views = True
    patch_block: int | None = None
    over_time = "each"

    def __init__(
        self,
        config: FilaConfig,
        *,
        input_size: int,
        codebook_size: int = 4096,
        code_size: int = 32,
        patch_nums: list[int] | tuple[int, ...] = (1, 2, 4, 8, 16),
        num_scales: int | None = None,
        normalize_codes: bool = False,
    ) -> None:
        super().__init__()
        width = config.text_config.hidden_size
        self.quantizer = FilaMultiScaleQuantizer(
            codebook_size, code_size, patch_nums, phi_ratio=0.0, normalize_codes=normalize_codes, count_hits=False
        )
        self.num_scales = len(patch_nums) if num_scales is None else num_scales
        if not 1 <= self.num_scales <= len(patch_nums):
            raise ValueError(
                f"`connector.num_scales` must be one of the 1 to {len(patch_nums)} first scales; got {num_scales}."
            )
        self.reduce = nn.Linear(input_size, code_size)
        self.norm = nn.LayerNorm(code_size)
        self.expand = nn.Linear(code_size, width)
        self.scale_embedding = nn.Parameter(torch.zeros(self.num_scales, width))

    def set_initial_weights(self, std: float) -> None:
        """Draw codes that differ enough to be distinguished from the first step on."""
        init.normal_(self.quantizer.embedding.weight, std=CODE_STD)
        init.normal_(self.scale_embedding, std=std)

    def tokens_per_tile(self, patch_grid: tuple[int, int]) -> int:
        """Return the number of patches of the scales that are read; it does not depend on `patch_grid`."""
        return sum(rows * cols for rows, cols in self.quantizer.patch_nums[: self.num_scales])

    def token_grid(self, patch_grid: tuple[int, int]) -> tuple[int, int] | None:
        """Return None: the scales are maps of several sizes."""
        return None

    def _maps(self, features: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Map `(T, P, D)` to `(T, C, h, w)` on the grid of the last scale."""
        size = self.quantizer.patch_nums[-1]
        reduced = self.norm(self.reduce(features)).transpose(1, 2)
        if not isinstance(grid, torch.Tensor):
            return F.interpolate(reduced.unflatten(2, grid), size=size, mode="area")
        views = [
            F.interpolate(view[:, : rows * cols].unflatten(1, (rows, cols))[None], size=size, mode="area")
            for view, (rows, cols) in zip(reduced, grid.tolist(), strict=True)
        ]
        return torch.cat(views)

    def forward(self, features: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Map `(T, P, D) -> (T, N, M)`."""
        maps = self._maps(features, grid)
        all_ids, sums = self.quantizer.encode(maps, num_scales=self.num_scales)
        tokens = []
        for scale, (ids, size) in enumerate(zip(all_ids, self.quantizer.patch_nums, strict=False)):
            rest = maps if scale == 0 else maps - sums[scale - 1]
            z_TNC = F.interpolate(rest, size=size, mode="area").flatten(2).transpose(1, 2)
            codes_TNC = self.quantizer.embedding(ids) + (z_TNC - z_TNC.detach())
            tokens.append(self.expand(codes_TNC) + self.scale_embedding[scale])
        return torch.cat(tokens, dim=1)
