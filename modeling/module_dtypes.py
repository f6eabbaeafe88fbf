# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Casts between parts of different dtypes: features are cast to a part's dtype where they enter it."""

import torch
from torch import nn


def at_entry(part: nn.Module, features: torch.Tensor) -> torch.Tensor:
    """Cast `features` to the dtype of the part's weights; keep theirs under autocast or if no weight is floating.

    Quantised weights are integers, so their dtype is not the dtype of their computation.
    """
    kind = features.device.type
    if kind != "meta" and torch.is_autocast_enabled(kind):  # the meta device counts costs and has no autocast
        return features
    dtype = next((weight.dtype for weight in part.parameters() if weight.is_floating_point()), features.dtype)
    return features.to(dtype)
