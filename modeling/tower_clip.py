# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""CLIP-architecture tower, run a group of layers at a time.

Paper: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", arXiv:2103.00020.
Code: transformers, `models/clip/modeling_clip.py::CLIPVisionModel`; the weights keep its names.

Deviations: layers that nothing reads, and the final norm of the pooled CLS token, do not exist here. Views of any
patch grid are accepted, with interpolated positions.
"""

from typing import Any

import torch
from transformers import CLIPVisionModel
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.clip.modeling_clip import CLIPVisionEmbeddings

from .frozen import graph_if_needed
from .positions import interpolated_positions, patch_mask


class ClipEmbeddings(CLIPVisionEmbeddings):
    """CLIP's embeddings, for views of the table's own grid and, packed, of any other."""

    def forward(self, pixel_values: torch.Tensor, patch_grids: torch.Tensor | None = None) -> torch.Tensor:
        """Embed views `(T, 3, S, S)`, or `(T, 3, p, L * p)` with the patches side by side: `(T, 1 + L, D)`."""
        if patch_grids is None:
            embedded: torch.Tensor = super().forward(pixel_values)
            return embedded
        patches = self.patch_embedding(pixel_values.to(self.patch_embedding.weight.dtype)).flatten(2).transpose(1, 2)
        prefix, table = self.position_embedding.weight[:1], self.position_embedding.weight[1:]
        tables: dict[tuple[int, int], torch.Tensor] = {}
        rows = []
        for grid in patch_grids.tolist():
            key = grid[0], grid[1]
            if key not in tables:
                missing = patches.shape[1] - key[0] * key[1]
                positions = torch.cat([prefix, interpolated_positions(table, key)])
                tables[key] = torch.nn.functional.pad(positions, (0, 0, 0, missing))
            rows.append(tables[key])
        hidden = torch.cat([self.class_embedding.expand(len(patches), 1, -1), patches], dim=1)
        return hidden + torch.stack(rows)


class ClipTower(CLIPVisionModel):
    """A `CLIPVisionModel` whose layers the hybrid encoder runs itself.

    Args:
        config: The `CLIPVisionConfig`.
        num_layers: Layers to keep, counted from the input.
    """

    num_prefix_tokens = 1
    # CLIP's list names a class of its text model too, and accelerate stops at a class that the model does not have
    _no_split_modules = ["ClipEmbeddings", "CLIPEncoderLayer"]  # noqa: RUF012

    def __init__(self, config: Any, num_layers: int | None = None) -> None:
        super().__init__(config)
        self.embeddings = ClipEmbeddings(config)
        self.encoder.layers = self.encoder.layers[:num_layers]
        del self.post_layernorm

    @classmethod
    def is_custom_code(cls) -> bool:
        """Whether transformers may skip CLIP's own init rules; it may not."""
        return False

    @property
    def num_layers(self) -> int:
        """Layers that exist."""
        return len(self.encoder.layers)

    @graph_if_needed
    def embed(self, pixel_values: torch.Tensor, patch_grids: torch.Tensor | None = None) -> torch.Tensor:
        """Turn views into the input of the first layer.

        Args:
            pixel_values: `(T, 3, S, S)` float, or `(T, 3, p, L * p)` with the patches of a view side by side.
            patch_grids: `(T, 2)` int, (rows, cols) of each view's patches; with the second form.

        Returns:
            `(T, 1 + P, D)`; the first token is CLS. P is L with `patch_grids`, and what lies beyond a view's patches
            is padding.
        """
        hidden_states: torch.Tensor = self.pre_layrnorm(self.embeddings(pixel_values, patch_grids))
        return hidden_states

    def attention_mask(self, hidden_states: torch.Tensor, patch_grids: torch.Tensor | None) -> torch.Tensor | None:
        """What `run_layers` needs to leave padding out of the attention; None where there is none.

        Args:
            hidden_states: `(T, 1 + L, D)`.
            patch_grids: `(T, 2)` int, or None.
        """
        if patch_grids is None:
            return None
        mask = patch_mask(patch_grids.to(hidden_states.device), hidden_states.shape[1] - self.num_prefix_tokens)
        if bool(mask.all()):
            return None
        mask = torch.nn.functional.pad(mask, (self.num_prefix_tokens, 0), value=True)
        return create_bidirectional_mask(
            config=self.config, inputs_embeds=hidden_states, attention_mask=mask.to(torch.int64)
        )

    @graph_if_needed
    def run_layers(
        self,
        hidden_states: torch.Tensor,
        start: int,
        stop: int,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Run layers `start` (inclusive, from 0) to `stop` (exclusive) on `(T, 1 + P, D)`."""
        for layer in self.encoder.layers[start:stop]:
            hidden_states = layer(hidden_states, attention_mask, **kwargs)
        return hidden_states
