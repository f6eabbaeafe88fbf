# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""SigLIP tower, run a group of layers at a time; with `positions="buckets"` the NaViT form of MiniCPM-V 2.6.

Paper: Zhai et al., "Sigmoid Loss for Language Image Pre-Training", arXiv:2303.15343.
Code: transformers, `models/siglip/modeling_siglip.py::SiglipVisionModel`; the weights keep its names. MiniCPM-V 2.6,
`modeling_navit_siglip.py`: views of unequal size, whose positions are selected from a 70x70 table by buckets.

Deviations: the tower leaves out layers that nothing reads and the pooling head. Options: `tower_vit.py`; `prefix` has
no effect, because there is no prefix token.
"""

import torch
from torch import nn
from transformers import PreTrainedConfig, SiglipVisionConfig, SiglipVisionModel
from transformers.models.siglip.modeling_siglip import SiglipAttention, SiglipEncoderLayer, SiglipVisionEmbeddings

from .tower_positions import add_positions
from .tower_vit import VitTower, has_final_norm, of_low_res_tower, vit_options


class SiglipEmbeddings(SiglipVisionEmbeddings):
    """SigLIP's embeddings, for views of the table's own grid and of any other."""

    def __init__(self, config: SiglipVisionConfig) -> None:
        super().__init__(config)
        self.positions = vit_options(config).positions

    def forward(self, pixel_values: torch.Tensor, patch_grids: torch.Tensor | None = None) -> torch.Tensor:
        """Embed views `(T, 3, H, W)`, or `(T, 3, p, L * p)` with the patches side by side: `(T, L, D)`."""
        features = self.patch_embedding(pixel_values.to(self.patch_embedding.weight.dtype))
        patches = features.flatten(2).transpose(1, 2)
        grid = features.shape[2], features.shape[3]
        positions = self.position_embedding(self.position_ids)[0]  # a call, for which sharded training gathers weights
        return add_positions(patches, positions, self.positions, grid, patch_grids)


class SiglipTower(VitTower, SiglipVisionModel):
    """A `SiglipVisionModel` whose layers the hybrid encoder runs itself.

    Args:
        config: The `SiglipVisionConfig`.
        num_layers: Layers to keep, counted from the input.
    """

    # SigLIP's list includes classes of its text model and head
    _no_split_modules = ["SiglipEmbeddings", "SiglipEncoderLayer", "VitMerger"]  # noqa: RUF012
    _can_record_outputs = of_low_res_tower(SiglipEncoderLayer, SiglipAttention)

    def __init__(self, config: SiglipVisionConfig, num_layers: int | None = None) -> None:
        super().__init__(config)
        self.embeddings = SiglipEmbeddings(config)
        self.encoder.layers = self.encoder.layers[:num_layers]
        if self.use_head:
            del self.head
        if not has_final_norm(config, num_layers):
            del self.post_layernorm
        self.add_merger(config, num_layers)

    @classmethod
    def is_custom_code(cls) -> bool:
        """Keep transformers from skipping SigLIP's own init rules."""
        return False

    @staticmethod
    def num_prefix(config: PreTrainedConfig) -> int:
        """Return 0: SigLIP has no prefix token."""
        return 0

    @property
    def layers(self) -> nn.ModuleList:
        """Layers that this tower keeps."""
        layers: nn.ModuleList = self.encoder.layers
        return layers

    @property
    def final_norm(self) -> nn.Module | None:
        """The norm after the last layer, if it is applied."""
        norm: nn.Module | None = getattr(self, "post_layernorm", None)
        return norm
