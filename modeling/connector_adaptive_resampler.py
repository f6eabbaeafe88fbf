# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Adaptive resampler connector: every learned query reads its own window of a view of any shape.

Paper: Guo et al., "LLaVA-UHD: an LMM Perceiving Any Aspect Ratio and High-Resolution Images", arXiv:2403.11703.
Code: thunlp/LLaVA-UHD, branch LLaVA-UHD-v1 @ dd7f6cc, `AdaptSpatialResampler`; the weights keep its names.

    x = norm_kv(W_kv feature)                        no bias; no W_kv if the widths agree
    k = x + p(r, c)                                  p: the queries' positions, bicubic, on the view's grid
    window (i, j) of g x g: rows i r/g to (i+1) r/g, columns j c/g to (j+1) c/g, by RoIAlign to h x w cells
    image token (i, j) = norm_post(attention(norm_q(query) + position, k in window, x in window)) proj

h x w is the one of seven sizes whose shape is nearest to the view's.

Deviations: RoIAlign (not aligned, adaptive sampling) is written in torch: both axes are independent, so it is one
matrix per axis. torchvision's compiled operator is not needed. The paper's own resampler has fewer queries, one window
and no RoIAlign; the released weights are of this one.

Shapes: T views, P patches of the largest view, (r, c) patch grid, D vision width, g windows per side, (h, w) cells of
a window, M language-model width.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init

from .configuration_fila import FilaConfig
from .part_attention import PackedAttention, check_heads
from .view_patch_grid import Grid, patch_positions

# (rows, cols) of a window's cells, in the order in which they are tried.
WINDOW_SIZES = ((2, 4), (2, 3), (3, 4), (3, 3), (4, 2), (3, 2), (4, 3))


def window_size(rows: int, cols: int) -> tuple[int, int]:
    """Return the window size (rows, cols), in cells, whose shape is nearest to a `rows` x `cols` patch grid.

    Example:
        >>> window_size(24, 24), window_size(17, 33)
        ((3, 3), (2, 4))
    """
    shape = math.log(cols / rows)
    return min(WINDOW_SIZES, key=lambda size: abs(shape - math.log(size[1] / size[0])))


def roi_weights(num_windows: int, bins: int, length: int, device: torch.device) -> torch.Tensor:
    """Return RoIAlign's weights along one axis that is cut into equal windows.

    Args:
        num_windows: g.
        bins: Cells that a window becomes.
        length: Patches of the axis.
        device: Device of the result.

    Returns:
        `(g, bins, length)` float32: the share of each patch in each cell. Rows sum to 1, or to less where a window
        reaches over the edge of an axis with fewer patches than windows.
    """
    windows = torch.arange(num_windows, device=device, dtype=torch.float32)
    start = windows * length / num_windows
    size = ((windows + 1) * length / num_windows - start).clamp(min=1)  # RoIAlign enlarges to one patch
    samples = (size / bins).ceil()
    most = math.ceil(max(length / num_windows, 1) / bins) + 1  # rounding may add a sample
    sample = torch.arange(most, device=device, dtype=torch.float32)
    step = (size / bins)[:, None, None]
    offset = (sample[None, None] + 0.5) / samples[:, None, None]
    place = start[:, None, None] + (torch.arange(bins, device=device)[None, :, None] + offset) * step
    used = (sample < samples[:, None])[:, None] & (place <= length)  # samples farther out count as zero
    place = place.clamp(max=length - 1)  # between the last patch's centre and there, the last patch's value holds
    shares = (1 - (place[..., None] - torch.arange(length, device=device)).abs()).clamp(min=0)
    return (shares * used[..., None]).sum(dim=2) / samples[:, None, None]


def windows_of(features: torch.Tensor, rows: int, cols: int, num_windows: int) -> torch.Tensor:
    """Cut maps into windows: `(T, r c, M) -> (T, g^2, h w, M)`."""
    height, width = window_size(rows, cols)
    by_row = roi_weights(num_windows, height, rows, features.device).to(features.dtype)
    by_col = roi_weights(num_windows, width, cols, features.device).to(features.dtype)
    maps = features.unflatten(1, (rows, cols))
    half = torch.einsum("iar,trcm->tiacm", by_row, maps)
    return torch.einsum("jbc,tiacm->tijabm", by_col, half).flatten(3, 4).flatten(1, 2)


class AdaptiveResamplerConnector(nn.Module):
    """Resampler with `grid_size` x `grid_size` image tokens for views of any shape.

    Args:
        config: The `FilaConfig`.
        input_size: Channels of the features.
        grid_size: g, windows (and queries) per side.
        num_heads: Heads of the attention; one per 128 channels by default.

    Raises:
        ValueError: If the heads do not divide M, or there is no window.
    """

    takes_unequal_views = True
    patch_block: int | None = None
    over_time = "each"

    def __init__(
        self, config: FilaConfig, *, input_size: int, grid_size: int = 12, num_heads: int | None = None
    ) -> None:
        super().__init__()
        width = config.text_config.hidden_size
        if grid_size < 1:
            raise ValueError(f"`connector.grid_size` must be at least 1; got {grid_size}.")
        heads = check_heads("connector.num_heads", max(1, width // 128) if num_heads is None else num_heads, width)
        self.grid_size = grid_size
        self.pos_embed = nn.Parameter(torch.zeros(grid_size**2, width))
        self.query = nn.Parameter(torch.zeros(grid_size**2, width))
        self.kv_proj = nn.Linear(input_size, width, bias=False) if input_size != width else nn.Identity()
        self.attn = PackedAttention(width, heads)
        self.ln_q = nn.LayerNorm(width, eps=1e-6)
        self.ln_kv = nn.LayerNorm(width, eps=1e-6)
        self.ln_post = nn.LayerNorm(width, eps=1e-6)
        self.proj = nn.Parameter(torch.zeros(width, width))

    def set_initial_weights(self, std: float) -> None:
        """Draw queries and positions with deviation 0.02 and `proj` with variance 1 / M, as the source does."""
        init.trunc_normal_(self.query, std=0.02)
        init.trunc_normal_(self.pos_embed, std=0.02)
        init.normal_(self.proj, mean=0.0, std=self.proj.shape[0] ** -0.5)

    def tokens_per_tile(self, patch_grid: tuple[int, int]) -> int:
        """Return one image token per window."""
        return self.grid_size**2

    def token_grid(self, patch_grid: tuple[int, int]) -> tuple[int, int] | None:
        """Return the windows' grid."""
        return self.grid_size, self.grid_size

    def _positions(self, rows: int, cols: int) -> torch.Tensor:
        """Return the queries' positions `(rows cols, M)`, resized bicubically without antialiasing, in float32."""
        side = self.grid_size
        table = self.pos_embed.to(torch.promote_types(self.pos_embed.dtype, torch.float32))
        table = table.unflatten(0, (side, side)).permute(2, 0, 1)[None]
        resized = F.interpolate(table, size=(rows, cols), mode="bicubic", align_corners=False)
        return resized[0].flatten(1).T.to(self.pos_embed.dtype)

    def forward(self, features: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Map `(T, P, D) -> (T, g^2, M)`; padding is not read."""
        patch_positions(grid, features.shape[1], features.device)
        grids = [(int(r), int(c)) for r, c in grid.tolist()] if isinstance(grid, torch.Tensor) else [grid]
        if len(grids) == 1:
            grids *= len(features)
        value = self.ln_kv(self.kv_proj(features))
        num_cells = max(math.prod(window_size(*shape)) for shape in grids)
        keys, values, masks = {}, {}, {}
        for rows, cols in dict.fromkeys(grids):
            views = [index for index, shape in enumerate(grids) if shape == (rows, cols)]
            values_TPM = value[views, : rows * cols]
            keys_TPM = values_TPM + self._positions(rows, cols)
            pair = torch.cat([keys_TPM, values_TPM], dim=-1)
            windows = windows_of(pair, rows, cols, self.grid_size)
            missing = num_cells - windows.shape[2]
            mask = torch.arange(num_cells, device=value.device) < windows.shape[2]
            for view, window in zip(views, F.pad(windows, (0, 0, 0, missing)), strict=True):
                keys[view], values[view] = window.chunk(2, dim=-1)
                masks[view] = mask.expand(len(window), -1)
        order = range(len(grids))
        query = (self.ln_q(self.query) + self.pos_embed)[None, :, None].expand(len(grids), -1, -1, -1)
        attended = self.attn(
            query.flatten(0, 1),
            torch.cat([keys[view] for view in order]),
            torch.cat([values[view] for view in order]),
            torch.cat([masks[view] for view in order]) if len(set(grids)) > 1 else None,
        )
        tokens: torch.Tensor = self.ln_post(attended.unflatten(0, (len(grids), -1))[:, :, 0]) @ self.proj
        return tokens
