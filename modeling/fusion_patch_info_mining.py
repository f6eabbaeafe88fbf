# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Patch info mining: each patch queries the high-res cells under it.

Paper: Li et al., "Mini-Gemini: Mining the Potential of Multi-modality Vision Language Models", arXiv:2403.18814.
Code: dvlab-research/MGM @ 769820c, `mgm_arch.py::unified_resampler`, `openclip_encoder.py::backbone`. Their
`vlm_uni_{query,aux,val}_projector.{0,1}` are `mining.{query,key,value}.{0,1}` here.

    A = [stage 1 ; up(stage 2) ; up(stage 3) ; up(stage 4)]         bilinear, to the size of stage 1
    q = W_q norm(v), k = W_k norm(a), v' = W_v norm(a)              a: the M x M cells of A under the patch
    T = v + softmax(q k^T / sqrt(D)) v'                             one head, no output projection

Mini-Gemini-HD shrinks A for the overview bilinearly without antialiasing: `high_res_overview="interpolate"`.

Deviations: the paper's MLP(q + ...) is the ordinary connector in the code, and its residual is the raw feature, not q;
the code is followed. Its `nan_to_num`, which does nothing for numbers, is left out.

Shapes: T views, P patches, D low-res width, E width of all stages, s cells per side, M = s / patches per side.
"""

import torch
from torch import nn

from .configuration_fila import FilaConfig
from .fusion_align import checked_stages, map_shapes
from .fusion_at_end import FusionAtEnd
from .towers import count_stages
from .view_layout import ViewLayout


def projector(input_size: int, width: int) -> nn.Sequential:
    """Build a norm and a linear layer."""
    return nn.Sequential(nn.LayerNorm(input_size), nn.Linear(input_size, width))


class PatchInfoMining(nn.Module):
    """Attention of each patch to its own window.

    Args:
        low_size: D.
        high_size: E.
        grid: (rows, cols) of the patches.
    """

    def __init__(self, low_size: int, high_size: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.query = projector(low_size, low_size)
        self.key = projector(high_size, low_size)
        self.value = projector(high_size, low_size)

    def forward(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """Return the mined features: `(low (T, P, D), high (T, E, s, s)) -> (T, P, D)`."""
        rows, cols = self.grid
        windows = high.to(low.dtype).unflatten(3, (cols, -1)).unflatten(2, (rows, -1))
        windows_TPME = windows.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)
        query, key, value = self.query(low), self.key(windows_TPME), self.value(windows_TPME)
        scores = torch.einsum("tpd,tpmd->tpm", query, key) / query.shape[-1] ** 0.5
        mined: torch.Tensor = torch.einsum("tpm,tpmd->tpd", scores.softmax(dim=-1), value)
        return mined


class PatchInfoMiningFusion(FusionAtEnd):
    """Mini-Gemini's fusion.

    Args:
        config: The `FilaConfig`.
        stages: Stages of the high-res tower, counted from 1, whose maps are stacked; all by default.

    Raises:
        ValueError: If a stage does not exist, or the first one's cells are not whole windows of the patch grid.
    """

    _no_split_modules = ("PatchInfoMining",)

    def __init__(self, config: FilaConfig, *, stages: list[int] | None = None) -> None:
        every = range(1, count_stages(config) + 1)
        super().__init__(config, checked_stages(config, "stages", every if stages is None else stages))
        ((width, side),) = map_shapes(config, self.final_stages)
        rows, cols = config.patch_grid
        if side % rows or side % cols:
            raise ValueError(
                f"Fusion 'patch_info_mining' needs whole windows: a view's {side}x{side} cells of stage "
                f"{self.final_stages[0][0]} must be a multiple of its {rows}x{cols} patches. Set `high_res_tile_size`."
            )
        self.mining = PatchInfoMining(self.output_size, width, config.patch_grid)

    def finish(self, low: torch.Tensor, maps: tuple[torch.Tensor, ...], layout: ViewLayout) -> torch.Tensor:
        """Map `(low (T, P, D), map (T, E, s, s)) -> (T, P, D)`."""
        mined: torch.Tensor = low + self.mining(low, maps[0])
        return mined
