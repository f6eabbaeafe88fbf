# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""EVA2-CLIP tower, that of CogVLM, CogVLM2 and CogVLM2-Video (EVA2-CLIP-E), run a group of layers at a time.

Paper: Sun et al., "EVA-CLIP: Improved Training Techniques for CLIP at Scale", arXiv:2303.15389; as the tower of a
vision-language model Wang et al., "CogVLM", arXiv:2311.03079, and Hong et al., "CogVLM2", arXiv:2408.16500.
Code: the hub file `visual.py` of CogVLM2-Video is in no repository; this follows copies and ports of CogVLM's and
CogVLM2's, which agree, and the tensor list of cogvlm2-llama3-caption. transformers has no such model.

transformers' CLIP with three differences: the patch convolution has a bias, no norm precedes the first layer, and a
layer normalises the outputs of its two parts, not their inputs:

    x = x + norm1(attention(x)),  x = x + norm2(mlp(x))

There is no final norm. Modules have CLIP's names. Despite its name this is not the EVA-02 of `tower_eva02.py`: no
rotary positions, no windows, no gated MLP.

Deviations: the tower leaves out layers that nothing reads. It accepts views of any grid. Options: `tower_vit.py`.
"""

from typing import Any, Unpack

import torch
from torch import nn
from transformers.models.clip.modeling_clip import CLIPEncoderLayer
from transformers.utils import TransformersKwargs

from .configuration_eva2_clip import Eva2ClipConfig
from .module_gradients import graph_if_needed
from .tower_clip import ClipEmbeddings, ClipTower
from .tower_options import square
from .tower_vit import VitTower


class Eva2ClipEmbeddings(ClipEmbeddings):
    """CLIP's embeddings with a bias."""

    def __init__(self, config: Eva2ClipConfig) -> None:
        super().__init__(config)
        patch = square(config, "patch_size")
        self.patch_embedding = nn.Conv2d(config.num_channels, config.hidden_size, kernel_size=patch, stride=patch)


class Eva2ClipLayer(CLIPEncoderLayer):
    """CLIP's layer with its norms after attention and MLP."""

    def forward(  # type: ignore[override]
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None, **kwargs: Unpack[TransformersKwargs]
    ) -> torch.Tensor:
        """Map `(T, N + P, D) -> (T, N + P, D)`."""
        attended, _ = self.self_attn(hidden_states=hidden_states, attention_mask=attention_mask, **kwargs)
        hidden_states = hidden_states + self.layer_norm1(attended)
        return hidden_states + self.layer_norm2(self.mlp(hidden_states))


class Eva2ClipTower(ClipTower):
    """EVA2-CLIP, whose layers the hybrid encoder runs itself.

    Args:
        config: The `Eva2ClipConfig`.
        num_layers: Layers to keep, counted from the input.
    """

    config_class = Eva2ClipConfig
    config: Any
    _no_split_modules = ["Eva2ClipEmbeddings", "Eva2ClipLayer", "VitMerger"]  # noqa: RUF012

    def __init__(self, config: Eva2ClipConfig, num_layers: int | None = None) -> None:
        super().__init__(config, num_layers)
        self.embeddings = Eva2ClipEmbeddings(config)
        self.encoder.layers = nn.ModuleList(Eva2ClipLayer(config) for _ in self.encoder.layers)
        del self.pre_layrnorm

    @graph_if_needed
    def embed(self, pixel_values: torch.Tensor, patch_grids: torch.Tensor | None = None) -> torch.Tensor:
        """Embed views; see `VitTower.embed`."""
        return VitTower.embed(self, pixel_values, patch_grids)
