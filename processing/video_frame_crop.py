# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Resize a frame's short side to the tile and crop the centre, as in CLIP's and CogVLM2-Video's preprocessing.

Code: transformers, `CLIPImageProcessorPil`: `resize`, `center_crop`; csbhr/Vivid-VR @ 38c736a, a copy of
CogVLM2-Video's `modeling_cogvlm.py`: `short_side_scale` and torchvision's `CenterCrop`.

Deviations: CogVLM2-Video normalises before it resizes; both steps are linear, so results differ only by rounding.
"""

from typing import Any

import numpy as np
from PIL import Image
from transformers.utils import is_torch_available

if is_torch_available():
    import torch
    import torch.nn.functional as F


def center_crop(frame: Image.Image, side: int, resample: int) -> Image.Image:
    """Crop `side` x `side` pixels from the centre of the resized frame; the long side is rounded down."""
    width, height = frame.size
    short, long = min(width, height), max(width, height)
    scaled = side if short == long else int(side * long / short)
    size = (side, scaled) if width <= height else (scaled, side)
    resized = frame.resize(size, resample)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return resized.crop((left, top, left + side, top + side))


def center_crop_without_antialias(pixels: "np.ndarray[Any, Any]", side: int) -> "np.ndarray[Any, Any]":
    """Resize and crop with bilinear interpolation between the nearest pixels, without antialiasing.

    Args:
        pixels: `(3, H, W)`, integers of 0..255 or floats of 0..1.
        side: Pixels per side of the crop.

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
