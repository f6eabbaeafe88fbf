# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""MLP connector.

Paper: Liu et al., "Improved Baselines with Visual Instruction Tuning" (LLaVA-1.5), arXiv:2310.03744.
Code: transformers, `models/llava/modeling_llava.py::LlavaMultiModalProjector`; the weights keep its names.
LLaVA's `mlp{depth}x_gelu`, of LLaVA-HR, Mini-Gemini and EAGLE too, is `depth`; its numbers 0, 2, ... are linear_1,
linear_2, ... here.

    image token = W2 act(W1 feature)                depth 2; each further layer is preceded by the activation

Deviations: none. The norms are an option of ours; with `norm="input"` it is InternVL's projector without its shuffle,
and with `residual` too the `SimpleResBlock` that LLaVA and VideoLLaMA 2 define and do not use: x + W2 act(W1 x),
x = norm(feature).

Shapes: T views, P patches, D vision width, M language-model width.
"""

import torch
from torch import nn
from transformers.activations import ACT2FN

from .configuration_fila import FilaConfig
from .part_options import one_of
from .view_patch_grid import OVER_TIME, Grid


class MlpConnector(nn.Module):
    """Return one image token per patch.

    Args:
        config: The `FilaConfig`.
        input_size: Channels of the features.
        depth: Number of linear layers.
        norm: `none`, `input` (LayerNorm of the features) or `output` (LayerNorm of the image tokens).
        hidden_act: Activation between the layers.
        bias: Whether the layers have biases.
        residual: Whether the (normed) features are added to the output, before its norm.
        over_time: `each`: every frame of a video gets tokens; `mean`: the mean of its frames does (VideoLLaMA 2).

    Raises:
        ValueError: If the activation, the norm or `over_time` is unknown, `depth` is 0, or `residual` would add
            features to tokens of another width.
    """

    takes_unequal_views = True
    patch_block: int | None = 1
    over_time: str

    def __init__(
        self,
        config: FilaConfig,
        *,
        input_size: int,
        depth: int = 2,
        norm: str = "none",
        hidden_act: str = "gelu",
        bias: bool = True,
        residual: bool = False,
        over_time: str = "each",
    ) -> None:
        super().__init__()
        one_of("connector.over_time", over_time, OVER_TIME)
        one_of("connector.norm", norm, ("none", "input", "output"))
        if hidden_act not in ACT2FN:
            raise ValueError(
                f"`connector.hidden_act` must be an activation that transformers knows; got {hidden_act!r}."
            )
        if depth < 1:
            raise ValueError(f"`connector.depth` must be at least 1; got {depth}.")
        width = config.text_config.hidden_size
        if residual and input_size != width:
            raise ValueError(
                "`connector.residual` adds features to image tokens, which needs one width; got "
                f"{input_size} and {width}."
            )
        self.depth = depth
        self.residual = residual
        self.over_time = over_time
        self.act = ACT2FN[hidden_act]
        self.input_norm = nn.LayerNorm(input_size) if norm == "input" else nn.Identity()
        for number in range(1, depth + 1):
            self.add_module(f"linear_{number}", nn.Linear(input_size if number == 1 else width, width, bias=bias))
        self.output_norm = nn.LayerNorm(width) if norm == "output" else nn.Identity()

    def tokens_per_tile(self, patch_grid: tuple[int, int]) -> int:
        """Return one image token per patch."""
        return patch_grid[0] * patch_grid[1]

    def token_grid(self, patch_grid: tuple[int, int]) -> tuple[int, int] | None:
        """Return the patch grid."""
        return patch_grid

    def forward(self, features: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Map `(T, P, D) -> (T, P, M)`."""
        given = tokens = self.input_norm(features)
        for number in range(1, self.depth + 1):
            tokens = self.get_submodule(f"linear_{number}")(tokens if number == 1 else self.act(tokens))
        normed: torch.Tensor = self.output_norm(tokens + given if self.residual else tokens)
        return normed
