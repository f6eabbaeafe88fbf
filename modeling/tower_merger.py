# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Merger inside a ViT: four neighbours become one patch, and the layers behind it run on a quarter of the patches.

Paper: LLaVA-UHD v4; MiniCPM-V 4.6. Code: transformers,
`models/minicpmv4_6/modeling_minicpmv4_6.py::MiniCPMV4_6ViTWindowAttentionMerger`; the weights keep its names.

For each window of 2 x 2 patches:

    w = x + O attention(norm1(x))                        among the four alone, without positions
    patch = W2 gelu_tanh(W1 norm([w1; w2; w3; w4])) + (w1 + w2 + w3 + w4) / 4

New weights: W1 is block-diagonal in four blocks, so that each of the four patches is processed alone at first.

Deviations: new weights have a variance of 1 / width. The source draws them with deviations of 1 and 0.25, with which a
new merger would drown the patches.

Shapes: T views, L patches of the largest view, D width, I width of the tower's MLPs.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers import initialization as init
from transformers.activations import ACT2FN

from .part_attention import attend
from .tower_options import TowerError, square
from .view_patch_grid import Grid
from .view_windows import WINDOW, windows


def merge_after(config: PreTrainedConfig) -> int:
    """Return the option `merge_after`, the layer behind which patches are joined, counted from 1.

    Raises:
        TowerError: If it is no layer of the tower.
    """
    layer, depth = getattr(config, "tower_options", {})["merge_after"], getattr(config, "num_hidden_layers", 0)
    if type(layer) is not int or not 1 <= layer <= depth:
        raise TowerError(
            f"`tower_options.merge_after` must name one of the {depth} layers of the tower, or be null; got {layer!r}."
        )
    return layer


class MergerAttention(nn.Module):
    """Self-attention among the patches of a window, with biases."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(B, 4, D) -> (B, 4, D)`."""
        attended: torch.Tensor = self.out_proj(attend(self.q_proj(x), self.k_proj(x), self.v_proj(x), self.num_heads))
        return attended


class VitMerger(nn.Module):
    """Joins each window of 2 x 2 patches into one.

    Args:
        config: The tower's config; `merge_after` of its `tower_options` is the layer behind which it stands.
        num_layers: Layers that the tower keeps; None: all.

    Raises:
        TowerError: If the layer that is read lies before the merger.
    """

    def __init__(self, config: PreTrainedConfig, num_layers: int | None = None) -> None:
        super().__init__()
        settings: Any = config
        self.after = merge_after(config)
        if num_layers is not None and num_layers < self.after:
            raise TowerError(
                f"Layer {num_layers} of tower {config.model_type!r} is read, and `tower_options.merge_after` joins "
                f"patches behind layer {self.after}, which is not run. Read a layer behind it "
                "(`vision_feature_layer`), or set `merge_after` to null."
            )
        width, eps = settings.hidden_size, settings.layer_norm_eps
        inner = getattr(settings, "intermediate_size", None) or int(width * settings.mlp_ratio)
        self.self_attn = MergerAttention(width, settings.num_attention_heads)
        self.layer_norm1 = nn.LayerNorm(width, eps=eps)
        self.pre_norm = nn.LayerNorm(WINDOW**2 * width, eps=eps)
        self.linear_1 = nn.Linear(WINDOW**2 * width, WINDOW**2 * inner)
        self.act = ACT2FN["gelu_pytorch_tanh"]
        self.linear_2 = nn.Linear(WINDOW**2 * inner, width)

    def set_initial_weights(self, std: float) -> None:
        """Draw the weights with a variance of 1 / width, W1's only in its four blocks; biases are zero."""
        attention = self.self_attn
        for linear in (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj, self.linear_2):
            init.normal_(linear.weight, std=linear.in_features**-0.5)
            init.zeros_(linear.bias)
        rows, cols = (side // WINDOW**2 for side in self.linear_1.weight.shape)
        drawn = torch.randn(WINDOW**2, rows, cols, device=self.linear_1.weight.device) * cols**-0.5
        init.copy_(self.linear_1.weight, torch.block_diag(*drawn).to(self.linear_1.weight.dtype))
        init.zeros_(self.linear_1.bias)

    @staticmethod
    def joined_grid(config: PreTrainedConfig, grid: tuple[int, int], num_prefix: int) -> tuple[int, int]:
        """Return the grid behind the merger of a view of `grid` patches.

        Raises:
            TowerError: If the tower has no layer `merge_after`, or tokens before its patches, or the grid is odd.
        """
        merge_after(config)
        if num_prefix:
            raise TowerError(
                f"`tower_options.merge_after` joins windows of 2x2 patches, and tower {config.model_type!r} has "
                f"{num_prefix} tokens before its patches, which are in no window. Set `prefix` of its "
                "`tower_options` to 'drop', or take a tower without such tokens."
            )
        rows, cols = grid
        if rows % WINDOW or cols % WINDOW:
            patch = square(config, "patch_size")
            raise TowerError(
                "`tower_options.merge_after` joins windows of 2x2 patches, so every view must have an even number of "
                f"rows and columns of patches; got {rows}x{cols} ({rows * patch}x{cols * patch} pixels). Choose "
                "another `tile_size`, or a canvas with `multiple`."
            )
        return rows // WINDOW, cols // WINDOW

    def run_layers(
        self,
        run: Callable[[torch.Tensor, int, int, torch.Tensor | None], torch.Tensor],
        mask_of: Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor | None],
        hidden_states: torch.Tensor,
        start: int,
        stop: int,
        attention_mask: torch.Tensor | None,
        patch_grids: torch.Tensor | None,
    ) -> torch.Tensor:
        """Run layers of the tower as `VitTower.run_layers` does, and merge behind layer `after`.

        Args:
            run: Function that runs layers, with hidden states, start, stop and mask.
            mask_of: Function that makes the mask of hidden states and patch grids.
            hidden_states: `(T, L, D)`, or `(T, L // 4, D)` if `start` lies behind the merger.
            start: First layer, from 0.
            stop: Layer behind the last one.
            attention_mask: Mask of the patches before the merger.
            patch_grids: `(T, 2)` int, their grids; None: squares.
        """
        if start < self.after:
            hidden_states = run(hidden_states, start, min(stop, self.after), attention_mask)
            if stop >= self.after:
                side = math.isqrt(hidden_states.shape[1])
                hidden_states = self(hidden_states, (side, side) if patch_grids is None else patch_grids)
        if stop <= self.after:
            return hidden_states
        attention_mask = mask_of(hidden_states, None if patch_grids is None else patch_grids // WINDOW)
        return run(hidden_states, max(start, self.after), stop, attention_mask)

    def forward(self, hidden_states: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Map `(T, L, D) -> (T, L // 4, D)`; `grid` is of even numbers, see `view_windows.py`."""
        joined = windows(hidden_states, grid)
        x = joined.flatten(0, 1)
        x = (x + self.self_attn(self.layer_norm1(x))).view_as(joined)
        merged: torch.Tensor = self.linear_2(self.act(self.linear_1(self.pre_norm(x.flatten(2)))))
        return merged + x.mean(dim=2)
