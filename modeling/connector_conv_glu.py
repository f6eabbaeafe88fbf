# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Convolution over 2 x 2 patches and a gated MLP, between a begin and an end vector: CogVLM2 and CogVLM2-Video.

Paper: Hong et al., "CogVLM2: Visual Language Models for Image and Video Understanding", arXiv:2408.16500.
Code: the hub file of cogvlm2-video-llama3-chat is not public in a repository; this follows the tensor list of its
sister checkpoint and three ports that agree. The weights keep the source's names.

    x = norm(W_in conv(feature map))               conv: 2 x 2, stride 2; no biases in W; norm: LayerNorm
    tokens = [boi; W_out (silu(W_gate g) * W_up g); eoi] / scaling_factor       g = gelu(x)

CogVLM2-Video keeps the vision width in the convolution (`conv="input"`) and does not scale; CogVLM2, for images, goes
to the language model's width there (`conv="output"`) and divides by its `scaling_factor`, boi and eoi too.

Deviations: none known; the record in tests/golden is a reconstruction, not the source's output.

Shapes: T views, P patches, (r, c) patch grid, D vision width, M language-model width.
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init

from .configuration_fila import FilaConfig
from .part_options import one_of
from .view_patch_grid import Grid, blocks_of, one_grid


class GatedMlp(nn.Module):
    """The projection, its norm, and the gated MLP."""

    def __init__(self, input_size: int, width: int, intermediate_size: int) -> None:
        super().__init__()
        self.linear_proj = nn.Linear(input_size, width, bias=False)
        self.norm1 = nn.LayerNorm(width, eps=1e-5)
        self.gate_proj = nn.Linear(width, intermediate_size, bias=False)
        self.dense_h_to_4h = nn.Linear(width, intermediate_size, bias=False)
        self.dense_4h_to_h = nn.Linear(intermediate_size, width, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map `(T, N, D) -> (T, N, M)`."""
        x = F.gelu(self.norm1(self.linear_proj(features)))
        tokens: torch.Tensor = self.dense_4h_to_h(F.silu(self.gate_proj(x)) * self.dense_h_to_4h(x))
        return tokens


class ConvGluConnector(nn.Module):
    """CogVLM2's connector: one token per 2 x 2 patches, between a begin and an end vector.

    Args:
        config: The `FilaConfig`.
        input_size: Channels of the features.
        conv: Width after the convolution: the "input" width, or the connector's "output" width.
        intermediate_size: Width inside the gated MLP; the language model's `intermediate_size` by default.
        boundaries: Whether learned begin and end vectors surround the tokens of a view.
        scaling_factor: Divisor of all tokens, begin and end vectors included.

    Raises:
        ValueError: If an option is out of range.
    """

    takes_unequal_views = False
    patch_block: int | None
    over_time = "each"

    def __init__(
        self,
        config: FilaConfig,
        *,
        input_size: int,
        conv: str = "input",
        intermediate_size: int | None = None,
        boundaries: bool = True,
        scaling_factor: float = 1.0,
    ) -> None:
        super().__init__()
        one_of("connector.conv", conv, ("input", "output"))
        if not scaling_factor > 0:
            raise ValueError(f"`connector.scaling_factor` must be above 0; got {scaling_factor}.")
        width = config.text_config.hidden_size
        if intermediate_size is None:
            intermediate_size = int(getattr(config.text_config, "intermediate_size", 4 * width))
        conv_size = input_size if conv == "input" else width
        self.scaling_factor = scaling_factor
        self.patch_block = None if boundaries else 2
        self.conv = nn.Conv2d(input_size, conv_size, 2, stride=2)
        self.linear_proj = GatedMlp(conv_size, width, intermediate_size)
        self.boi = nn.Parameter(torch.zeros(1, 1, width)) if boundaries else None
        self.eoi = nn.Parameter(torch.zeros(1, 1, width)) if boundaries else None

    def set_initial_weights(self, std: float) -> None:
        """Draw random begin and end vectors."""
        for vector in (self.boi, self.eoi):
            if vector is not None:
                init.normal_(vector, mean=0.0, std=std)

    def tokens_per_tile(self, patch_grid: tuple[int, int]) -> int:
        """Return one token per 2 x 2 patches plus the two vectors; a last odd row or column is not seen.

        Raises:
            ValueError: If the grid is smaller than 2 x 2.
        """
        rows, cols = patch_grid
        if min(patch_grid) < 2:
            raise ValueError(f"Connector 'conv_glu' joins 2x2 patches; got a patch grid of {rows}x{cols}.")
        return (rows // 2) * (cols // 2) + 2 * (self.boi is not None)

    def token_grid(self, patch_grid: tuple[int, int]) -> tuple[int, int] | None:
        """Return the blocks' grid; None with begin and end vectors, or if a row or column of patches is left over."""
        return blocks_of(patch_grid, self.patch_block)

    def forward(self, features: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Map `(T, P, D) -> (T, P / 4 + 2, M)`."""
        maps = features.transpose(1, 2).unflatten(2, one_grid("conv_glu", grid))
        tokens: torch.Tensor = self.linear_proj(self.conv(maps).flatten(2).transpose(1, 2))
        if self.boi is not None and self.eoi is not None:
            boi, eoi = (vector.to(tokens.dtype).expand(tokens.shape[0], -1, -1) for vector in (self.boi, self.eoi))
            tokens = torch.cat([boi, tokens, eoi], dim=1)
        return tokens / self.scaling_factor
