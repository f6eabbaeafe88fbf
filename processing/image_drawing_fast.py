# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The mode `fast` of the image processors: torch's uint8 resize, see `image_drawing.py` for its bound."""

from typing import Any

import numpy as np
from PIL import Image
from transformers.image_utils import PILImageResampling
from transformers.utils import is_torch_available

from .canvas_plan import Size
from .image_drawing import ExactDrawing, is_vertical_first, pil_filter

if is_torch_available():
    import torch

FAST_LEVELS = 2
TORCH_FILTERS = {PILImageResampling.BILINEAR: "bilinear", PILImageResampling.BICUBIC: "bicubic"}


class FastDrawing:
    """Drawing with torch, on the CPU or another device.

    Args:
        resample: Filter of every resize.
        device: Device that pixels are moved to before resizing; None keeps them on theirs.

    Raises:
        ValueError: If there is no torch.
    """

    takes_tensors = True

    def __init__(self, resample: object, device: "str | torch.device | None" = None) -> None:
        if not is_torch_available():
            raise ValueError('`mode="fast"` needs torch, which is not installed; use "exact".')
        self.resample = pil_filter(resample)
        self.device = device

    def source(self, pixels: Any) -> "torch.Tensor":
        """Return a channels-last tensor `(3, H, W)`, which torch resizes fastest; on the CPU nothing is copied."""
        if isinstance(pixels, Image.Image):
            pixels = _on_memory_of(np.asarray(pixels)).permute(2, 0, 1)
        elif isinstance(pixels, np.ndarray):
            pixels = _on_memory_of(np.ascontiguousarray(pixels.transpose(1, 2, 0))).permute(2, 0, 1)
        source: torch.Tensor = pixels.to(self.device)[None].contiguous(memory_format=torch.channels_last)[0]
        return source

    @staticmethod
    def is_source(image: object) -> bool:
        """Return whether an image has the type that `source` returns."""
        return isinstance(image, torch.Tensor) and image.dtype == torch.uint8 and len(image) == 3

    @staticmethod
    def size(image: "torch.Tensor") -> Size:
        """Return height and width of a source."""
        return Size(*image.shape[-2:])

    def resize(self, image: "torch.Tensor", size: Size) -> "torch.Tensor":
        """Resize a source to gray levels `(3, *size)`."""
        if tuple(image.shape[-2:]) == tuple(size):
            return image
        mode = TORCH_FILTERS.get(self.resample)
        if mode is None:
            exact = ExactDrawing(self.resample).resize(image.cpu().numpy(), size)
            return _on_memory_of(exact).to(image.device)
        between = Size(image.shape[-2], size.width)
        if is_vertical_first(self.size(image), size):
            between = Size(size.height, image.shape[-1])
        if not _resizes_uint8(image):
            return resize_in_floats(image, between, size, mode)
        if between.height == size.height:
            image = _interpolate(image, between, mode)
        return _interpolate(image, size, mode)

    @staticmethod
    def allocate(shape: tuple[int, ...], like: "torch.Tensor", *, zeros: bool) -> "torch.Tensor":
        """Allocate float32 memory, zeroed or not, on the device of the tensor or array `like`."""
        if not isinstance(like, torch.Tensor) or like.device.type == "cpu":
            # numpy takes the system's zero pages, which cost nothing until they are written to; torch writes zeros.
            return torch.from_numpy(ExactDrawing.allocate(shape, like, zeros=zeros))
        return (torch.zeros if zeros else torch.empty)(shape, device=like.device)

    @staticmethod
    def write(levels: "torch.Tensor", out: "torch.Tensor", table: np.ndarray) -> None:
        """Write the floats of gray levels `(3, ...)`: on the line through the ends of each row of `table`."""
        first, last = table[:, 0].astype(float), table[:, 255].astype(float)
        for plane, into, scale, offset in zip(levels, out, (last - first) / 255, first, strict=True):
            into.copy_(plane).mul_(float(scale)).add_(float(offset))


def resize_in_floats(image: "torch.Tensor", between: Size, size: Size, mode: str) -> "torch.Tensor":
    """Resize `(3, H, W)` uint8 if torch resizes only floats: one pass per axis, rounded and clipped as uint8."""
    half = _rounded(_interpolate(image.float(), between, mode))
    return _rounded(_interpolate(half, size, mode)).to(torch.uint8)


def _resizes_uint8(image: "torch.Tensor") -> bool:
    return image.device.type == "cpu"


def _rounded(values: "torch.Tensor") -> "torch.Tensor":
    return (values + 0.5).floor_().clamp_(0, 255)  # halves go up, as in PIL


def _interpolate(image: "torch.Tensor", size: Size, mode: str) -> "torch.Tensor":
    resized: torch.Tensor = torch.nn.functional.interpolate(image[None], tuple(size), mode=mode, antialias=True)[0]
    return resized


class _Writable:
    """An array's memory, declared writable."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array  # keeps the memory
        address, _ = array.__array_interface__["data"]
        self.__array_interface__ = {**array.__array_interface__, "data": (address, False)}


def _on_memory_of(array: np.ndarray) -> "torch.Tensor":
    """Return a tensor on an array's memory. Nothing writes to it, but torch warns about read-only memory."""
    return torch.from_numpy(array if array.flags.writeable else np.asarray(_Writable(array)))
