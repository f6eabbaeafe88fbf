# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Mixture of resolution: LLaVA-HR's adapters inside the low-res tower, and its sum after the last layer.

Paper: Luo et al., "Feast Your Eyes: Mixture-of-Resolution Adaptation for Multimodal Large Language Models",
arXiv:2403.03003.
Code: luogen1996/LLaVA-HR @ 1212ffb, `multipath_encoder_wapper.py::S2FStitchAlignModuleV2` and the final align module.
Their slow_* and fast_* are high_* and low_* here, `align_stages_latent.I` is `layers.I`, `align_stages.0` is `final`.

    h = R(W_hp gelu(W_hc H))                        H: last high-res stage; R: resizes to the patch grid
    l = V + W_lp gelu(depthwise 7x7 (V))            V: patch features of the low-res tower
    g = tanh(W_2 gelu(W_1 mean over patches [l ; h]))       one scalar per view
    V <- l + g h                                    after layers 6, 12 and 18 of 24, each with the same H
    F = W_l V + W_h R(H)                            after the last layer

R interpolates bilinearly with aligned corners if the map is smaller than the patch grid, and averages whole blocks if
it is larger.

Deviations: the paper's gate is a vector made from f_l(V); the code's, which is followed here, is a scalar made from l.
The source creates the adapters only when the towers are trained; here the taps decide, and `taps=[]` is its first
stage. The source drops CLS before the first layer; prefix tokens, where a tower has them, pass by the adapters.

Shapes: T views, N prefix tokens (CLS), P patches, (r, c) patch grid, D low-res width, E width of the last stage, s
cells per side.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init

from .configuration_fila import FilaConfig
from .fusion_align import map_shapes
from .fusion_taps import checked_taps, layers_at, split_prefix
from .image_resize import resize_corners
from .towers import count_stages
from .view_layout import ViewLayout


def match_grid(high: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Resize `(T, E, s, s)` to `(T, E, r, c)`: aligned corners up, mean of whole blocks down."""
    rows, cols = grid
    if high.shape[-2] > rows and high.shape[-1] > cols:
        return F.avg_pool2d(high, (high.shape[-2] // rows, high.shape[-1] // cols))
    return resize_corners(high, grid)


class ResolutionAdapter(nn.Module):
    """The MR-Adapter of one tap."""

    def __init__(self, low_size: int, high_size: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.high_conv = nn.Conv2d(high_size, high_size, kernel_size=1)
        self.high_proj = nn.Conv2d(high_size, low_size, kernel_size=1)
        self.low_conv = nn.Conv2d(low_size, low_size, kernel_size=7, padding=3, groups=low_size)
        self.low_proj = nn.Conv2d(low_size, low_size, kernel_size=1)
        self.gate = nn.Sequential(nn.Linear(2 * low_size, low_size // 2), nn.GELU(), nn.Linear(low_size // 2, 1))

    def set_initial_weights(self, std: float) -> None:
        """Set both projections to zero, so that the adapter starts as the identity."""
        for layer in (self.high_proj, self.low_proj):
            init.zeros_(layer.weight)
            init.zeros_(cast(torch.Tensor, layer.bias))

    def forward(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """Map `(low (T, N + P, D), high (T, E, s, s)) -> (T, N + P, D)`."""
        prefix, patches = split_prefix(low, self.grid[0] * self.grid[1])
        detail = match_grid(self.high_proj(F.gelu(self.high_conv(high.to(low.dtype)))), self.grid)
        detail_TPD = detail.flatten(2).transpose(1, 2)
        local = self.low_proj(F.gelu(self.low_conv(patches.transpose(1, 2).unflatten(2, self.grid))))
        patches = patches + local.flatten(2).transpose(1, 2)
        gate = torch.tanh(self.gate(torch.cat([patches, detail_TPD], dim=-1).mean(dim=1)))
        return torch.cat([prefix, patches + gate[:, None] * detail_TPD], dim=1)


class FinalAlign(nn.Module):
    """The sum after the last layer."""

    def __init__(self, low_size: int, high_size: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.low_proj = nn.Linear(low_size, low_size)
        self.high_proj = nn.Linear(high_size, low_size)

    def forward(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """Map `(low (T, P, D), high (T, E, s, s)) -> (T, P, D)`."""
        high_TPE = match_grid(high.to(low.dtype), self.grid).flatten(2).transpose(1, 2)
        aligned: torch.Tensor = self.low_proj(low) + self.high_proj(high_TPE)
        return aligned


class MixtureOfResolutionFusion(nn.Module):
    """LLaVA-HR's fusion.

    Args:
        config: The `FilaConfig`.
        taps: Layers of the low-res tower, counted from 1, that an adapter follows; by default the ends of the first
            three of four equal groups of its layers.
        final: Whether the towers are summed after the last layer.

    Raises:
        ValueError: If a tap does not exist, the last stage's map does not divide into whole blocks of the patch
            grid, or nothing reads the high-res tower.
    """

    taps: tuple[tuple[int, int], ...]
    final_stages: tuple[tuple[int, ...], ...]
    output_size: int
    output_grid: tuple[int, int]
    joins_views = False
    needs_high_res_tower = True
    takes_cls = False
    takes_unequal_views = False
    tokens_are_places = True
    _no_split_modules = ("ResolutionAdapter",)

    def __init__(self, config: FilaConfig, *, taps: list[int] | None = None, final: bool = True) -> None:
        super().__init__()
        stage = count_stages(config)
        layers = layers_at(config, (1 / 4, 1 / 2, 3 / 4), taps)
        if not layers and not final:
            raise ValueError("`fusion.taps` is empty and `fusion.final` false: nothing reads the high-res tower.")
        self.taps = checked_taps(config, layers, [stage] * len(layers)) if layers else ()
        self.final_stages = ((stage,),) if final else ()
        low_size: int = config.vision_config.hidden_size
        grid: tuple[int, int] = config.patch_grid
        self.output_size = low_size
        self.output_grid = grid
        ((high_size, side),) = map_shapes(config, [(stage,)])
        if side > grid[0] and side % grid[0]:
            raise ValueError(
                f"Fusion 'mixture_of_resolution' averages whole blocks: a view's {side}x{side} cells of the last "
                f"stage must be a multiple of its {grid[0]}x{grid[1]} patches. Set `high_res_tile_size`."
            )
        self.layers = nn.ModuleList(ResolutionAdapter(low_size, high_size, grid) for _ in self.taps)
        self.final = FinalAlign(low_size, high_size, grid) if final else None

    def fuse(self, tap: int, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """Map `(low (T, N + P, D), high (T, E, s, s)) -> (T, N + P, D)`."""
        fused: torch.Tensor = self.layers[tap](low, high)
        return fused

    def finish(self, low: torch.Tensor, maps: tuple[torch.Tensor, ...], layout: ViewLayout) -> torch.Tensor:
        """Map `(low (T, P, D), map (T, E, s, s)) -> (T, P, D)`."""
        return low if self.final is None else self.final(low, maps[0])
