# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Two projections of half the language model's width, side by side: DeepSeek-VL's fusion.

Paper: Lu et al., "DeepSeek-VL: Towards Real-World Vision-Language Understanding", arXiv:2403.05525.
Code: transformers, `models/deepseek_vl_hybrid`. Its `high_res_vision_proj.conv{1,2}` are `convs.{0,1}` here,
`high_res_vision_alpha` is `alpha`, and `aligner.{high_res_vision_proj,vision_proj}` are
`{high,low}_proj`; `aligner.proj` is the connector `linear`.

    down(z) = conv2(conv1(up(z)))       up: bilinear to 4n x 4n, edge on edge; 3x3, stride 2, each doubles the channels
    H = down(L) + alpha down(X)         L: the map of `stage`, X: that of `plus`, with one set of weights
    F = act([W_h H ; W_l V])            V: low-res patch features; n: patches per side

DeepSeek-VL has SAM's last map as L, and that of its third layer, through a neck of its own, as X. alpha starts at 0.

Deviations: none in the values. `down` is linear, so H is computed as down(L + alpha X), at half the cost.

Shapes: T views, P patches, D low-res width, E width of a stage, s cells per side, M language-model width.
"""

import torch
from torch import nn
from transformers import initialization as init
from transformers.activations import ACT2FN

from .configuration_fila import FilaConfig
from .fusion_align import checked_stages, map_shapes
from .fusion_at_end import FusionAtEnd
from .image_resize import resize_edges
from .towers import last_stages
from .view_layout import ViewLayout


class HalfProjectionsFusion(FusionAtEnd):
    """Half of each token's channels come from the high-res tower, and half from the low-res tower.

    Args:
        config: The `FilaConfig`.
        stage: Stage of the high-res towers, counted from 1 through all of them; the last by default.
        plus: A stage of as many channels, whose map is added, times a learned number; none by default.
        halvings: Convolutions of stride 2 behind the enlarged map.
        hidden_act: Activation behind the projections.

    Raises:
        ValueError: If a stage does not exist or does not fit, an option has a wrong value, or the language model's
            width is odd.
    """

    def __init__(
        self,
        config: FilaConfig,
        *,
        stage: int | None = None,
        plus: int | None = None,
        halvings: int = 2,
        hidden_act: str = "gelu",
    ) -> None:
        last = last_stages(config)[-1] if stage is None else stage
        groups = [checked_stages(config, "stage", [last])]
        if plus is not None:
            groups.append(checked_stages(config, "plus", [plus]))
        super().__init__(config, *groups)
        (channels, _), *others = map_shapes(config, self.final_stages)
        if others and others[0][0] != channels:
            raise ValueError(
                f"`fusion.plus` must be a stage of {channels} channels, as stage {last}; stage {plus} has "
                f"{others[0][0]}."
            )
        if halvings < 0:
            raise ValueError(f"`fusion.halvings` must be at least 0; got {halvings}.")
        if hidden_act not in ACT2FN:
            raise ValueError(f"`fusion.hidden_act` must be an activation that transformers knows; got {hidden_act!r}.")
        width = config.text_config.hidden_size
        if width % 2:
            raise ValueError(f"Fusion 'half_projections' halves the language model's width, which is odd: {width}.")
        self.side = config.patch_grid[0] * 2**halvings
        self.alpha = None if plus is None else nn.Parameter(torch.zeros(1))
        self.convs = nn.ModuleList(
            nn.Conv2d(channels * 2**at, channels * 2 ** (at + 1), 3, stride=2, padding=1, bias=False)
            for at in range(halvings)
        )
        self.high_proj = nn.Linear(channels * 2**halvings, width // 2)
        self.low_proj = nn.Linear(self.output_size, width // 2)
        self.act = ACT2FN[hidden_act]
        self.output_size = width

    def set_initial_weights(self, std: float) -> None:
        """Start without the added map."""
        if self.alpha is not None:
            init.zeros_(self.alpha)

    def high_features(self, maps: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return H from the maps `(T, E, s, s)`: `(T, P, channels of the last convolution)`."""
        sizes = (self.side, self.side)
        high = resize_edges(maps[0], sizes)
        if self.alpha is not None:
            high = high + self.alpha * resize_edges(maps[1], sizes)
        for conv in self.convs:
            high = conv(high)
        return high.flatten(2).transpose(1, 2)

    def finish(self, low: torch.Tensor, maps: tuple[torch.Tensor, ...], layout: ViewLayout) -> torch.Tensor:
        """Map `(low (T, P, D), maps (T, E, s, s)) -> (T, P, M)`."""
        high = self.high_features(tuple(features.to(low.dtype) for features in maps))
        fused: torch.Tensor = self.act(torch.cat([self.high_proj(high), self.low_proj(low)], dim=-1))
        return fused
