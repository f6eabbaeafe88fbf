# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""CLIP-architecture tower, run a group of layers at a time.

Paper: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", arXiv:2103.00020.
Code: transformers, `models/clip/modeling_clip.py::CLIPVisionModel`; the weights keep its names.

Deviations: layers that nothing reads, and the final norm of the pooled CLS token, do not exist here.
"""

from typing import Any

import torch
from transformers import CLIPVisionModel

from .frozen import graph_if_needed


class ClipTower(CLIPVisionModel):
    """A `CLIPVisionModel` whose layers the hybrid encoder runs itself.

    Args:
        config: The `CLIPVisionConfig`.
        num_layers: Layers to keep, counted from the input.
    """

    num_prefix_tokens = 1
    # CLIP's list names a class of its text model too, and accelerate stops at a class that the model does not have
    _no_split_modules = ["CLIPVisionEmbeddings", "CLIPEncoderLayer"]  # noqa: RUF012

    def __init__(self, config: Any, num_layers: int | None = None) -> None:
        super().__init__(config)
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
    def embed(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Turn views into the input of the first layer.

        Args:
            pixel_values: `(T, 3, S, S)` float.

        Returns:
            `(T, 1 + P, D)`; the first token is CLS.
        """
        hidden_states: torch.Tensor = self.pre_layrnorm(self.embeddings(pixel_values))
        return hidden_states

    @graph_if_needed
    def run_layers(self, hidden_states: torch.Tensor, start: int, stop: int, **kwargs: Any) -> torch.Tensor:
        """Run layers `start` (inclusive, from 0) to `stop` (exclusive) on `(T, 1 + P, D)`."""
        for layer in self.encoder.layers[start:stop]:
            hidden_states = layer(hidden_states, None, **kwargs)
        return hidden_states
