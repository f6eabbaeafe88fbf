# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Slow twin of Mini-Gemini's mining: one view, one patch, one window at a time."""

import torch

from tests.reference.naive_layers import Weights, attention, channels_last, layer_norm, linear


def naive_patch_info_mining(weights: Weights, low: torch.Tensor, high: torch.Tensor, side: int) -> torch.Tensor:
    """`(P, D), (E, s, s) -> (P, D)`."""

    def project(x: torch.Tensor, name: str) -> torch.Tensor:
        return linear(layer_norm(x, weights, f"mining.{name}.0", 1e-5), weights, f"mining.{name}.1")

    step = high.shape[1] // side
    cells = channels_last(high)
    rows = []
    for index, patch in enumerate(low):
        r, c = divmod(index, side)
        window = cells[r * step : (r + 1) * step, c * step : (c + 1) * step].flatten(0, 1)
        mined = attention(project(patch[None], "query"), project(window, "key"), project(window, "value"), 1)
        rows.append(patch + mined[0])
    return torch.stack(rows)
