# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Rules that resize maps and images inside the model.

All compute in float32. A map that has the size already is returned unchanged.
"""

import torch
import torch.nn.functional as F

RESIZES = ("corners", "edges", "antialias")


def resize_corners(features: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize `(T, E, h, w)` bilinearly with the corner cells' centres aligned, without antialiasing.

    EAGLE and LLaVA-HR use this rule.
    """
    return resize(features, size, "corners")


def resize_edges(features: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize `(T, E, h, w)` bilinearly, edge on edge, without antialiasing, as Mini-Gemini does."""
    return resize(features, size, "edges")


def resize(features: torch.Tensor, size: tuple[int, int], rule: str) -> torch.Tensor:
    """Resize `(T, E, h, w)` to `size` bilinearly.

    Args:
        features: Maps or images.
        size: (rows, cols).
        rule: `corners`, `edges`, or `antialias`: edge on edge, averaging where it shrinks.

    Returns:
        `(T, E, rows, cols)`, dtype of `features`.
    """
    if features.shape[-2:] == size:
        return features
    wide = features.to(torch.promote_types(features.dtype, torch.float32))
    resized = F.interpolate(
        wide, size=size, mode="bilinear", align_corners=rule == "corners", antialias=rule == "antialias"
    )
    return resized.to(features.dtype)
