# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""InternViT tower, run a group of layers at a time.

Paper: Chen et al., "InternVL: Scaling up Vision Foundation Models and Aligning for Generic Visual-Linguistic Tasks",
arXiv:2312.14238.
Code: transformers, `models/internvl/modeling_internvl.py::InternVLVisionModel`; the weights keep its names.

Deviations: the tower leaves out layers that nothing reads and the mask token of pre-training. Its layers take no mask,
so it rejects views of unequal size. Options: `tower_vit.py`. As in transformers, the final norm also needs
`use_mean_pooling=False` in the config.
"""

from typing import Any

import torch
from torch import nn
from transformers import InternVLVisionConfig
from transformers.models.internvl.modeling_internvl import (
    InternVLVisionAttention,
    InternVLVisionEmbeddings,
    InternVLVisionLayer,
    InternVLVisionModel,
)

from .tower_positions import add_positions
from .tower_vit import VitTower, has_final_norm, of_low_res_tower, vit_options


class InternVitEmbeddings(InternVLVisionEmbeddings):
    """InternViT's embeddings, for views of the table's own grid and of any other."""

    def __init__(self, config: InternVLVisionConfig) -> None:
        super().__init__(config)
        self.options = vit_options(config)
        self.mask_token = None  # type: ignore[assignment]
        if self.options.prefix == "drop":
            del self.cls_token
            # only InternViT's init rule reads it
            self.register_buffer("cls_token", torch.zeros(1, 1, config.hidden_size), persistent=False)

    def forward(self, pixel_values: torch.Tensor, patch_grids: torch.Tensor | None = None) -> torch.Tensor:
        """Embed views `(T, 3, H, W)`, or `(T, 3, p, L * p)` with the patches side by side: `(T, N + L, D)`."""
        projection = self.patch_embeddings.projection
        features = projection(pixel_values.to(projection.weight.dtype))
        patches = features.flatten(2).transpose(1, 2)
        cls = self.cls_token[0]
        if self.position_embeddings is not None:
            positions = self.position_embeddings[0]
            rule, grid = self.options.positions, (features.shape[2], features.shape[3])
            patches = add_positions(patches, positions[1:], rule, grid, patch_grids)
            cls = cls + positions[:1]
        if self.options.prefix == "keep":
            patches = torch.cat([cls.expand(patches.shape[0], 1, -1), patches], dim=1)
        hidden_states: torch.Tensor = self.dropout(patches)
        return hidden_states


class InternVitTower(VitTower, InternVLVisionModel):
    """An `InternVLVisionModel` whose layers the hybrid encoder runs itself.

    Args:
        config: The `InternVLVisionConfig`.
        num_layers: Layers to keep, counted from the input.
    """

    takes_mask = False
    _no_split_modules = ["InternVitEmbeddings", "InternVLVisionLayer", "VitMerger"]  # noqa: RUF012
    _can_record_outputs = of_low_res_tower(InternVLVisionLayer, InternVLVisionAttention)

    def __init__(self, config: InternVLVisionConfig, num_layers: int | None = None) -> None:
        super().__init__(config)
        self.embeddings = InternVitEmbeddings(config)
        self.encoder.layer = self.encoder.layer[:num_layers]
        if not has_final_norm(config, num_layers):
            self.layernorm = nn.Identity()
        self.add_merger(config, num_layers)

    @classmethod
    def is_custom_code(cls) -> bool:
        """Keep transformers from skipping InternViT's own init rules."""
        return False

    def get_input_embeddings(self) -> nn.Module:
        """Return the patch embedding; transformers returns the module around it, which is not called here."""
        patch_embeddings: Any = self.embeddings.patch_embeddings
        projection: nn.Module = patch_embeddings.projection
        return projection

    @property
    def layers(self) -> nn.ModuleList:
        """Layers that this tower keeps."""
        layers: nn.ModuleList = self.encoder.layer
        return layers

    @property
    def final_norm(self) -> nn.Module:
        """The norm after the last layer, or the identity."""
        norm: nn.Module = self.layernorm
        return norm
