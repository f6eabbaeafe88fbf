# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Sequence concatenation after the last layer: one tower's tokens follow the other's, or the two alternate.

Papers: Azadani et al., "LEO: Boosting Mixture of Vision Encoders for Multimodal Large Language Models",
arXiv:2501.06986 (`interleave`); Shi et al., "Eagle", arXiv:2408.15998 (`append`).
Code: Mozhgan91/LEO @ d2787c6, `LeoModel`.

    append       [low_1 ... low_P high_1 ... high_S]
    interleave   [low_1 high_1 low_2 high_2 ...]              per view

LEO applies a connector of its own to each tower before the tokens alternate: set `connectors`, with `identity` as the
model's connector. Without them a linear layer projects the high-res tokens to the low-res width (our choice).

Deviations: EAGLE published `append` as an ablation, without code.

Shapes: T views, P patches, D low-res width, E width of the stage, s cells per side, S high-res tokens.
"""

from typing import Any, cast

import torch
from torch import nn

from .configuration_fila import FilaConfig
from .connector import build_connector
from .fusion_align import Align, checked_stages, map_shapes
from .fusion_at_end import FusionAtEnd
from .part_options import one_of
from .towers import count_stages
from .view_layout import ViewLayout


def interleave(sequences: list[torch.Tensor]) -> torch.Tensor:
    """Interleave `K x (T, S, D) -> (T, K S, D)`: the first token of each, then the second of each, ..."""
    return torch.stack(sequences, dim=2).flatten(1, 2)


class SequenceConcatFusion(FusionAtEnd):
    """Puts both towers' tokens into one sequence.

    Args:
        config: The `FilaConfig`.
        order: `append` or `interleave`; the latter needs equally many tokens of both towers.
        stage: Stage of the high-res tower, counted from 1; the last by default.
        align: Rule that resizes a view's part of the map to the patch grid: `conv`, `pool`, `bilinear` or `corners`;
            `none` (the default) keeps the map's own cells.
        connectors: Options of the two towers' own connectors (low-res, high-res), as in `FilaConfig.connector`.

    Raises:
        ValueError: If a choice is unknown, or the towers' tokens cannot alternate.
    """

    tokens_are_places = False

    def __init__(
        self,
        config: FilaConfig,
        *,
        order: str = "append",
        stage: int | None = None,
        align: str = "none",
        connectors: list[dict[str, Any]] | None = None,
    ) -> None:
        one_of("fusion.order", order, ("append", "interleave"))
        stage = count_stages(config) if stage is None else stage
        super().__init__(config, checked_stages(config, "stage", [stage]))
        ((high_size, side),) = map_shapes(config, self.final_stages)
        self.order = order
        self.patch_grid = config.patch_grid
        self.high_grid = (side, side) if align == "none" else config.patch_grid
        self.align = (
            nn.Identity() if align == "none" else Align(align, channels=high_size, side=side, grid=self.patch_grid[0])
        )
        if connectors is None:
            self.connectors = nn.ModuleList([nn.Identity(), nn.Linear(high_size, self.output_size)])
            lengths = [rows * cols for rows, cols in (self.patch_grid, self.high_grid)]
        else:
            if len(connectors) != 2:
                raise ValueError(f"`fusion.connectors` must hold one connector per tower, 2; got {len(connectors)}.")
            sizes = (self.output_size, high_size)
            parts = [build_connector(config, size, part) for size, part in zip(sizes, connectors, strict=True)]
            self.connectors = nn.ModuleList(cast("list[nn.Module]", parts))
            grids = (self.patch_grid, self.high_grid)
            lengths = [part.tokens_per_tile(grid) for part, grid in zip(parts, grids, strict=True)]
            self.output_size = config.text_config.hidden_size
        self.has_connectors = connectors is not None
        if order == "interleave" and lengths[0] != lengths[1]:
            raise ValueError(
                f"`fusion.order` 'interleave' needs as many tokens of both towers; the low-res tower has {lengths[0]} "
                f"and the high-res tower {lengths[1]} per view. Use 'append', or `fusion.align`."
            )
        self.output_grid = 1, sum(lengths)

    def finish(self, low: torch.Tensor, maps: tuple[torch.Tensor, ...], layout: ViewLayout) -> torch.Tensor:
        """Map `(low (T, P, D), map (T, E, s, s)) -> (T, tokens of both, output_size)`."""
        high = self.align(maps[0].to(low.dtype)).flatten(2).transpose(1, 2)
        pairs = zip(self.connectors, (low, high), (self.patch_grid, self.high_grid), strict=True)
        tokens = [part(x, grid) if self.has_connectors else part(x) for part, x, grid in pairs]
        return interleave(tokens) if self.order == "interleave" else torch.cat(tokens, dim=1)
