# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""No fusion: the low-res tower alone."""

import torch

from .configuration_fila import FilaConfig
from .fusion_at_end import FusionAtEnd
from .towers import LOW_RES_TOWERS
from .view_layout import ViewLayout


class NoFusion(FusionAtEnd):
    """Returns the low-res tower's features unchanged."""

    needs_high_res_tower = False
    takes_cls = True
    takes_unequal_views = True

    def __init__(self, config: FilaConfig) -> None:
        super().__init__(config)
        if config.vision_feature_select == "cls_patch":
            rows, cols = config.patch_grid
            prefix = LOW_RES_TOWERS[config.vision_config.model_type].num_prefix(config.vision_config)
            self.output_grid = 1, prefix + rows * cols
            self.takes_unequal_views = self.tokens_are_places = False

    def finish(self, low: torch.Tensor, maps: tuple[torch.Tensor, ...], layout: ViewLayout) -> torch.Tensor:
        """Return the features `(T, P, D)` unchanged."""
        return low
