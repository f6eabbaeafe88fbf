# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""CLIP-architecture tower, run a group of layers at a time.

Paper: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", arXiv:2103.00020.
Code: transformers, `models/clip/modeling_clip.py::CLIPVisionModel`; the weights keep its names.

Deviations: the tower leaves out layers that nothing reads and the final norm of the pooled CLS token. It accepts views
of any patch grid. Options: `tower_vit.py`. With `prefix="drop"` it leaves out the CLS embedding too; the position
table keeps its row, so that LLaVA-HR's and EAGLE's tables fit unchanged.
"""

import torch
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel
from transformers.models.clip.modeling_clip import CLIPAttention, CLIPEncoderLayer, CLIPVisionEmbeddings

from .module_gradients import graph_if_needed
from .tower_positions import add_positions
from .tower_vit import VitTower, of_low_res_tower, vit_options


class ClipEmbeddings(CLIPVisionEmbeddings):
    """CLIP's embeddings, for views of the table's own grid and of any other."""

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__(config)
        self.options = vit_options(config)
        if self.options.prefix == "drop":
            del self.class_embedding
            # only CLIP's init rule reads it
            self.register_buffer("class_embedding", torch.zeros(config.hidden_size), persistent=False)

    def forward(self, pixel_values: torch.Tensor, patch_grids: torch.Tensor | None = None) -> torch.Tensor:
        """Embed views `(T, 3, H, W)`, or `(T, 3, p, L * p)` with the patches side by side: `(T, N + L, D)`."""
        features = self.patch_embedding(pixel_values.to(self.patch_embedding.weight.dtype))
        patches = features.flatten(2).transpose(1, 2)
        positions = self.position_embedding(self.position_ids)[0]  # a call, for which sharded training gathers weights
        rule, grid = self.options.positions, (features.shape[2], features.shape[3])
        patches = add_positions(patches, positions[1:], rule, grid, patch_grids)
        if self.options.prefix == "drop":
            return patches
        cls = (self.class_embedding + positions[0]).expand(patches.shape[0], 1, -1)
        return torch.cat([cls, patches], dim=1)


class ClipTower(VitTower, CLIPVisionModel):
    """A `CLIPVisionModel` whose layers the hybrid encoder runs itself.

    Args:
        config: The `CLIPVisionConfig`.
        num_layers: Layers to keep, counted from the input.
    """

    # CLIP's list includes a class of its text model, and accelerate fails on a class that the model does not have
    _no_split_modules = ["ClipEmbeddings", "CLIPEncoderLayer", "VitMerger"]  # noqa: RUF012
    _can_record_outputs = of_low_res_tower(CLIPEncoderLayer, CLIPAttention)

    def __init__(self, config: CLIPVisionConfig, num_layers: int | None = None) -> None:
        super().__init__(config)
        self.embeddings = ClipEmbeddings(config)
        self.encoder.layers = self.encoder.layers[:num_layers]
        del self.post_layernorm
        self.add_merger(config, num_layers)

    @classmethod
    def is_custom_code(cls) -> bool:
        """Keep transformers from skipping CLIP's own init rules."""
        return False

    @property
    def layers(self) -> nn.ModuleList:
        """Layers that this tower keeps."""
        layers: nn.ModuleList = self.encoder.layers
        return layers

    @graph_if_needed
    def embed(self, pixel_values: torch.Tensor, patch_grids: torch.Tensor | None = None) -> torch.Tensor:
        """Embed views; see `VitTower.embed`."""
        hidden_states: torch.Tensor = self.pre_layrnorm(VitTower.embed(self, pixel_values, patch_grids))
        return hidden_states
