# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Query gate: learned queries read all views of an image, and a gate merges the results into every view.

Source: the Open-AutoGLM article on dynamic resolution (no paper, no repository), "learnable queries across tiles,
gated fusion", in words only.

    A = W_o attention(Q, norm(X) + p, norm(X))      X: tokens of all views of the image; p: row and column of the view
    g = sigmoid(W [A ; V])
    F = g A + (1 - g) V                             per view, patch and channel

One query per patch of a view. X are the high-res tower's tokens, projected to the low-res width, or, in a model
without high-res tower, the low-res tower's own. g starts at 0.05: the encoder starts near the low-res tower alone.

Deviations: the article has no formulas. It names three steps: attention across tiles, gate and the code of a tile's
position; all else is our choice.

Shapes: I images, T views of all images, P patches, D low-res width, E width of the stage, s cells per side, K tokens
of the image with the most.
"""

import math

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import initialization as init

from .configuration_fila import FilaConfig
from .connector_sincos import sincos_2d
from .fusion_align import checked_stages, map_shapes
from .fusion_at_end import FusionAtEnd
from .part_attention import CrossAttention, check_heads
from .towers import count_stages
from .view_layout import ViewLayout

INITIAL_SHARE = 0.05


class QueryReader(nn.Module):
    """Queries that read a set of tokens."""

    def __init__(self, num_queries: int, width: int, num_heads: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.zeros(num_queries, width))
        self.norm = nn.LayerNorm(width)
        self.attention = CrossAttention(width, num_heads)

    def set_initial_weights(self, std: float) -> None:
        """Draw small random queries, all different."""
        init.normal_(self.queries, mean=0.0, std=std)

    def forward(self, tokens: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Map `(I, K, D), (I, K, D), (I, K) bool -> (I, P, D)`."""
        normed = self.norm(tokens)
        found: torch.Tensor = self.attention(
            self.queries.expand(tokens.shape[0], -1, -1), normed + positions, normed, mask
        )
        return found


class GatedMerge(nn.Module):
    """`g a + (1 - g) b` with `g = sigmoid(W [a ; b])`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * width, width)

    def set_initial_weights(self, std: float) -> None:
        """Set the gate almost closed, so that the result is nearly b."""
        init.constant_(self.gate.bias, math.log(INITIAL_SHARE / (1 - INITIAL_SHARE)))

    def forward(self, found: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        share = torch.sigmoid(self.gate(torch.cat([found, own], dim=-1)))
        return share * found + (1 - share) * own


class QueryGateFusion(FusionAtEnd):
    """Queries across the views of an image, and a gated merge.

    Args:
        config: The `FilaConfig`; `high_res_vision_config` may be `None`.
        stage: Stage of the high-res tower that is read, counted from 1; the last by default.
        num_heads: Heads of the attention; the low-res tower's by default.
        position: Whether tokens get a code of their view's position in the image.

    Raises:
        ValueError: If the stage does not exist or the width is not divisible by the heads or, with positions, by 4.
    """

    joins_views = True
    needs_high_res_tower = False

    def __init__(
        self, config: FilaConfig, *, stage: int | None = None, num_heads: int | None = None, position: bool = True
    ) -> None:
        high = config.high_res_vision_config
        if high is None and stage is not None:
            raise ValueError(f"`fusion.stage` is {stage}, but `high_res_vision_config` is None. Drop the one.")
        read = [] if high is None else [count_stages(config) if stage is None else stage]
        super().__init__(config, *([checked_stages(config, "stage", read)] if read else []))
        width = self.output_size
        heads = config.vision_config.num_attention_heads if num_heads is None else num_heads
        check_heads("fusion.num_heads", heads, width)
        if position and width % 4:
            raise ValueError(f"`fusion.position` needs a low-res width divisible by 4; got {width}. Set it to false.")
        self.position = position
        self.project = None if high is None else nn.Linear(map_shapes(config, self.final_stages)[0][0], width)
        self.reader = QueryReader(math.prod(config.patch_grid), width, heads)
        self.merge = GatedMerge(width)

    def finish(self, low: torch.Tensor, maps: tuple[torch.Tensor, ...], layout: ViewLayout) -> torch.Tensor:
        """Map `(low (T, P, D), map (T, E, s, s)) -> (T, P, D)`."""
        tokens = low
        if self.project is not None:
            tokens = self.project(maps[0].to(low.dtype).flatten(2).transpose(1, 2))
        positions = torch.zeros_like(tokens)
        if self.position:
            place = layout.positions(low.device)
            positions = sincos_2d(place[:, 0], place[:, 1], low.shape[-1]).to(low.dtype)[:, None].expand_as(tokens)
        num_views = list(layout.num_views)
        per_image = [
            pad_sequence([views.flatten(0, 1) for views in x.split(num_views)], batch_first=True)
            for x in (tokens, positions)
        ]
        counts = torch.tensor(num_views, device=low.device) * tokens.shape[1]
        mask = torch.arange(per_image[0].shape[1], device=low.device) < counts[:, None]
        found = self.reader(*per_image, mask)
        found_TPD = torch.cat([image.expand(count, -1, -1) for image, count in zip(found, num_views, strict=True)])
        merged: torch.Tensor = self.merge(found_TPD, low)
        return merged
