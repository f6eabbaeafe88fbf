# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Cross-attention at taps: the low-res tokens V of a view read the high-res cells H under the view's box.

No single source: the gate is that of Alayrac et al., "Flamingo", arXiv:2204.14198.

    V <- V + tanh(a) W_o attention(norm(V) + p, norm(H) + p, norm(H))

p is the sine-cosine code of a token's position in the view, in patches, for both towers; prefix tokens have none.
a starts at zero: the fused encoder starts as the low-res tower alone.

Shapes: T views, N prefix tokens (CLS), P patches, D low-res width, E width of the tap's stage, s cells per side.
"""

import torch
from torch import nn
from transformers import initialization as init

from .configuration_fila import FilaConfig
from .connector_sincos import sincos_2d
from .fusion_taps import checked_taps, layers_at, split_prefix
from .part_attention import CrossAttention, check_heads
from .part_options import one_of
from .towers import count_stages, stage_shape
from .view_layout import ViewLayout


class CrossAttentionLayer(nn.Module):
    """Cross-attention at one tap."""

    def __init__(
        self, low_size: int, high_size: int, *, grid: tuple[int, int], num_heads: int, position: str, gate: bool
    ) -> None:
        super().__init__()
        self.grid = grid
        self.position = position
        self.norm_low = nn.LayerNorm(low_size)
        self.norm_high = nn.LayerNorm(high_size)
        self.project = nn.Linear(high_size, low_size)
        self.attention = CrossAttention(low_size, num_heads)
        self.gate = nn.Parameter(torch.zeros(1)) if gate else None

    def set_initial_weights(self, std: float) -> None:
        """Set the gate, or without one the output projection, to zero."""
        if self.gate is not None:
            init.zeros_(self.gate)
        else:
            init.zeros_(self.attention.out_proj.weight)

    def _positions(self, cells: tuple[int, int], like: torch.Tensor) -> torch.Tensor:
        """Return codes `(cells, D)` of the positions of a map's cell centres in the view, in patches."""
        axes = [
            (torch.arange(count, device=like.device, dtype=torch.float32) + 0.5) * patches / count - 0.5
            for count, patches in zip(cells, self.grid, strict=True)
        ]
        rows, cols = torch.meshgrid(*axes, indexing="ij")
        return sincos_2d(rows.flatten(), cols.flatten(), like.shape[-1]).to(like.dtype)

    def forward(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        cells = high.shape[-2], high.shape[-1]
        value = self.project(self.norm_high(high.to(low.dtype).flatten(2).transpose(1, 2)))
        key, query = value, self.norm_low(low)
        if self.position == "sincos":
            prefix, patches = split_prefix(query, self.grid[0] * self.grid[1])
            query = torch.cat([prefix, patches + self._positions(self.grid, low)], dim=1)
            key = value + self._positions(cells, low)
        update: torch.Tensor = self.attention(query, key, value)
        return low + (update if self.gate is None else torch.tanh(self.gate) * update)


class CrossAttentionFusion(nn.Module):
    """Cross-attention at several taps.

    Args:
        config: The `FilaConfig`.
        taps: Layers of the low-res tower, counted from 1, after which to fuse; by default the ends of the first three
            of four equal groups of its layers.
        stages: Stage of the high-res tower for each tap, counted from 1; by default the last for all.
        num_heads: Heads of the attention; the low-res tower's by default.
        position: `sincos` or `none`.
        gate: Whether the update is scaled by tanh of a scalar that starts at zero; without it the output projection
            starts at zero.

    Raises:
        ValueError: If taps and stages do not fit the towers or each other, or a choice is unknown.
    """

    taps: tuple[tuple[int, int], ...]
    final_stages: tuple[tuple[int, ...], ...] = ()
    output_size: int
    output_grid: tuple[int, int]
    joins_views = False
    needs_high_res_tower = True
    takes_cls = False
    takes_unequal_views = False
    tokens_are_places = True
    _no_split_modules = ("CrossAttentionLayer",)

    def __init__(
        self,
        config: FilaConfig,
        *,
        taps: list[int] | None = None,
        stages: list[int] | None = None,
        num_heads: int | None = None,
        position: str = "sincos",
        gate: bool = True,
    ) -> None:
        super().__init__()
        one_of("fusion.position", position, ("sincos", "none"))
        last = count_stages(config)
        layers = layers_at(config, (1 / 4, 1 / 2, 3 / 4), taps)
        self.taps = checked_taps(config, layers, [last] * len(layers) if stages is None else stages)
        low_size: int = config.vision_config.hidden_size
        heads = config.vision_config.num_attention_heads if num_heads is None else num_heads
        check_heads("fusion.num_heads", heads, low_size)
        if position == "sincos" and low_size % 4:
            raise ValueError(
                f"`fusion.position` 'sincos' needs a low-res width divisible by 4; got {low_size}. Use 'none'."
            )
        self.output_size = low_size
        self.output_grid = config.patch_grid
        self.layers = nn.ModuleList(
            CrossAttentionLayer(
                low_size,
                stage_shape(config, stage)[0],
                grid=config.patch_grid,
                num_heads=heads,
                position=position,
                gate=gate,
            )
            for _, stage in self.taps
        )

    def fuse(self, tap: int, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """Map `(low (T, N + P, D), high (T, E, s, s)) -> (T, N + P, D)`."""
        fused: torch.Tensor = self.layers[tap](low, high)
        return fused

    def finish(self, low: torch.Tensor, maps: tuple[torch.Tensor, ...], layout: ViewLayout) -> torch.Tensor:
        """Return the features `(T, P, D)` unchanged."""
        return low
