# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""A frame's short side brought to the tile's, and the middle cut out: CLIP's own preprocessing, and CogVLM2-Video's.

Code: transformers, `CLIPImageProcessorPil`: `resize`, `center_crop`; csbhr/Vivid-VR @ 38c736a, a copy of
CogVLM2-Video's `modeling_cogvlm.py`: `short_side_scale` and torchvision's `CenterCrop`.

Deviations: CogVLM2-Video normalises before it resizes; both are linear, and the results differ by rounding alone.
"""

from typing import Any

import numpy as np
from PIL import Image
from transformers.utils import is_torch_available

if is_torch_available():
    import torch
    import torch.nn.functional as F


def center_crop(frame: Image.Image, side: int, resample: int) -> Image.Image:
    """`side` x `side` pixels out of the middle; the long side is rounded down."""
    width, height = frame.size
    short, long = min(width, height), max(width, height)
    scaled = side if short == long else int(side * long / short)
    size = (side, scaled) if width <= height else (scaled, side)
    resized = frame.resize(size, resample)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return resized.crop((left, top, left + side, top + side))


def center_crop_without_antialias(pixels: "np.ndarray[Any, Any]", side: int) -> "np.ndarray[Any, Any]":
    """Bilinear between the nearest pixels alone.

    Args:
        pixels: `(3, H, W)`, of 0..255, or floats of 0..1.
        side: Of the square.

    Returns:
        `(3, side, side)` float32 in 0..1.
    """
    height, width = pixels.shape[1:]
    if width < height:
        size = (int(np.floor(height / width * side)), side)
    else:
        size = (side, int(np.floor(width / height * side)))
    white = 1 if pixels.dtype.kind == "f" and pixels.max() <= 1 else 255
    scaled = torch.from_numpy(np.array(pixels, dtype=np.float32))[None] / white
    resized = F.interpolate(scaled, size=size, mode="bilinear", align_corners=False)[0].numpy()
    top, left = round((size[0] - side) / 2), round((size[1] - side) / 2)
    return resized[:, top : top + side, left : left + side]
