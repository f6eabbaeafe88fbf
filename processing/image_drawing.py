# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Resize uint8 RGB pixels and write them as floats, in the two modes of the image processors.

    exact   PIL's resize on the CPU; each gray level is looked up in a table of the floats that transformers'
            rescaling and normalisation give. Bit by bit what the published systems do, with and without torchvision.
    fast    torch's uint8 resize, where the pixels are, then one multiply-add.

Bound: a gray level of `fast` differs from that of `exact` by at most `FAST_LEVELS`, and by more than 1 hardly ever.
Both resize in two passes, and round and clip to uint8 in between; they differ by how finely the filter's weights are
rounded, which moves a value over a rounding edge in either pass, and the second pass sums with weights whose absolute
sum is below 1.5. torch has the filters of `TORCH_FILTERS`; with others `fast` is `exact`.

The order of the passes matters where a filter overshoots at edges. Pillow resized along the rows first until version
13, and since then along the columns where the height shrinks by more than twice the pixels of the width; torch begins
with the rows. Here the order is Pillow 13's with every Pillow and with torch.

Either reads the source once per distinct size and writes each value once, into the memory that is returned.
"""

import functools
from typing import Any, cast

import numpy as np
from PIL import Image
from transformers.image_transforms import normalize, rescale
from transformers.image_utils import PILImageResampling
from transformers.utils import is_torchvision_available

from .canvas_plan import Size

BLOCK = 2**16  # values looked up at a time


class ExactDrawing:
    """Drawing with PIL and numpy.

    Attributes:
        takes_tensors: Whether `source` takes tensors `(3, H, W)` on any device.

    Args:
        resample: Filter of every resize; None is bilinear, as in transformers.
        device: Not used: PIL works on the CPU.
    """

    takes_tensors = False

    def __init__(self, resample: object, device: object = None) -> None:
        self.resample = pil_filter(resample)

    @staticmethod
    def source(pixels: Image.Image | np.ndarray) -> Image.Image:
        """Return an RGB PIL image unchanged, or build one from an array `(3, H, W)`."""
        if isinstance(pixels, Image.Image):
            return pixels
        return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))

    @staticmethod
    def is_source(image: object) -> bool:
        """Return whether an image has the type that `source` returns."""
        return isinstance(image, Image.Image)

    @staticmethod
    def size(image: Image.Image) -> Size:
        """Return height and width of a source."""
        return Size(image.height, image.width)

    def resize(self, image: Image.Image | np.ndarray, size: Size) -> np.ndarray:
        """Resize a source, or an array `(3, H, W)`, to gray levels `(3, *size)`."""
        picture = self.source(image)
        if is_vertical_first(self.size(picture), size):
            picture = picture.resize((picture.width, size.height), self.resample)
        if picture.size != (size.width, size.height):
            picture = picture.resize((size.width, size.height), self.resample)
        return np.asarray(picture).transpose(2, 0, 1)

    @staticmethod
    def allocate(shape: tuple[int, ...], like: object, *, zeros: bool) -> np.ndarray:
        """Allocate float32 memory, zeroed or not."""
        return np.zeros(shape, np.float32) if zeros else np.empty(shape, np.float32)

    @staticmethod
    def write(levels: np.ndarray, out: np.ndarray, table: np.ndarray) -> None:
        """Write the floats of gray levels `(3, ...)`; `table` `(3, 256)` holds them by channel."""
        rows = max(1, BLOCK // levels.shape[-1])  # numpy first makes 8-byte indices, which must fit into the cache
        for plane, row, into in zip(levels, table, out, strict=True):
            for top in range(0, len(plane), rows):
                block = into[top : top + rows]
                # uint8 never exceeds the table; "clip" skips the check. numpy would read memory with gaps first.
                if block.flags.c_contiguous:
                    np.take(row, plane[top : top + rows], out=block, mode="clip")
                else:
                    block[...] = np.take(row, plane[top : top + rows], mode="clip")


@functools.lru_cache(maxsize=64)
def level_table(
    do_rescale: bool | None,
    rescale_factor: float | None,
    do_normalize: bool | None,
    mean: float | tuple[float, ...] | None,
    std: float | tuple[float, ...] | None,
) -> np.ndarray:
    """Return the float of each gray level by channel, `(3, 256)`, rescaled and normalised as transformers does on PIL.

    Example:
        >>> level_table(True, 1 / 255, True, (0.5, 0.5, 0.5), (0.5, 0.25, 0.5))[:, [0, 255]].tolist()
        [[-1.0, 1.0], [-2.0, 2.0], [-1.0, 1.0]]
    """
    levels: Any = np.tile(np.arange(256, dtype=np.uint8), (3, 1, 1))
    forms: dict[str, Any] = {"data_format": "channels_first", "input_data_format": "channels_first"}
    if do_rescale:
        levels = rescale(levels, cast(float, rescale_factor), **forms)
    if do_normalize:
        levels = normalize(
            levels, cast("float | tuple[float, ...]", mean), cast("float | tuple[float, ...]", std), **forms
        )
    table = np.ascontiguousarray(levels[:, 0], dtype=np.float32)
    table.flags.writeable = False
    return table


def pil_filter(resample: object) -> PILImageResampling:
    """Return PIL's name of a filter that may be torchvision's."""
    if resample is None:
        return PILImageResampling.BILINEAR
    if isinstance(resample, int):
        return PILImageResampling(resample)
    assert is_torchvision_available(), resample
    from transformers.image_utils import torch_pil_interpolation_mapping

    return PILImageResampling(torch_pil_interpolation_mapping[resample])


def is_vertical_first(size: Size, target: Size) -> bool:
    """Return whether Pillow 13 resizes along the columns before the rows.

    Example:
        >>> is_vertical_first(Size(2000, 500), Size(336, 336)), is_vertical_first(Size(500, 2000), Size(336, 336))
        (True, False)
    """
    return size.height - target.height > max(0, 2 * (size.width - target.width))
