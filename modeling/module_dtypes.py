# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Parts of a model may have different dtypes: what passes from one to the next takes the next one's at its entry."""

import torch
from torch import nn


def at_entry(part: nn.Module, features: torch.Tensor) -> torch.Tensor:
    """`features` in the dtype of the part's weights; as they are under autocast, or if no weight is floating.

    Quantised weights are integers and say nothing of the dtype that they compute in.
    """
    kind = features.device.type
    if kind != "meta" and torch.is_autocast_enabled(kind):  # meta, where costs are counted, knows no autocast
        return features
    dtype = next((weight.dtype for weight in part.parameters() if weight.is_floating_point()), features.dtype)
    return features.to(dtype)
