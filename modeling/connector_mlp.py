# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Two-layer MLP connector.

Paper: Liu et al., "Improved Baselines with Visual Instruction Tuning" (LLaVA-1.5), arXiv:2310.03744.
Code: transformers, `models/llava/modeling_llava.py::LlavaMultiModalProjector`; the weights keep its names.

    image token = W2 act(W1 feature)

Deviations: none.
"""

from typing import Any

import torch
from torch import nn
from transformers.activations import ACT2FN


class MlpConnector(nn.Module):
    """One image token per patch.

    Args:
        config: The `FilaConfig`.
        input_size: Channels of the features.
        hidden_act: Activation between the two layers.
        bias: Whether the layers have biases.

    Raises:
        ValueError: If the activation is unknown.
    """

    def __init__(self, config: Any, *, input_size: int, hidden_act: str = "gelu", bias: bool = True) -> None:
        super().__init__()
        if hidden_act not in ACT2FN:
            raise ValueError(
                f"`connector.hidden_act` must be an activation that transformers knows; got {hidden_act!r}."
            )
        width = config.text_config.hidden_size
        self.linear_1 = nn.Linear(input_size, width, bias=bias)
        self.act = ACT2FN[hidden_act]
        self.linear_2 = nn.Linear(width, width, bias=bias)

    def tokens_per_tile(self, patch_grid: tuple[int, int]) -> int:
        """One image token per patch."""
        return patch_grid[0] * patch_grid[1]

    def forward(self, features: torch.Tensor, patch_grids: torch.Tensor | None = None) -> torch.Tensor:
        """`(T, P, D) -> (T, P, M)`."""
        tokens: torch.Tensor = self.linear_2(self.act(self.linear_1(features)))
        return tokens
