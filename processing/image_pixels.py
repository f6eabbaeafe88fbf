# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Convert PIL images, arrays and tensors to `(C, H, W)` arrays, by rules that never guess.

| given | becomes |
|---|---|
| uint8 | itself, not copied |
| uint16, PIL `I;16`, PIL `I` within 0..65535 | the high byte, as of 16-bit color files; refused if all < 256 |
| floats within 0..1 | times 255, rounded |
| floats within 0..255 | rounded; refused if the largest is between 1 and 16 and not all are whole |
| NaN, infinite, negative, larger, any other dtype | refused |
| two axes | gray |
| three axes | the end of length 1, 3 or 4 is the channels; refused where both ends or none could be |
| transparency, in a channel, a palette or a color key | drawn on white |
| CMYK, YCbCr, LAB, HSV, palettes, 1 bit | RGB as PIL and littleCMS convert them |
"""

from collections.abc import Callable
from math import prod
from typing import Any, TypeGuard

import numpy as np
from PIL import Image
from transformers.utils import is_torch_available

from .image_decode import check_size
from .image_error import UnusableImage

if is_torch_available():
    import torch

ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
COLOR_MODES = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", *ALPHA_MODES)
NUMBER_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")
USE_UINT8 = "Convert it to uint8 in 0..255, or to floats in 0..1."
# Floats with a larger maximum are surely meant as 0..255; below, they may be fractions that overshoot.
SURELY_BYTES = 16
STRIP = 2**18  # pixels that are converted at a time


def is_array(image: object) -> TypeGuard["np.ndarray | torch.Tensor"]:
    """Return whether an image is a numpy array or a torch tensor of one shape, not a nested tensor."""
    if is_torch_available() and isinstance(image, torch.Tensor):
        return not image.is_nested
    return isinstance(image, np.ndarray)


def is_plain_rgb(image: object) -> bool:
    """Return whether an image is a PIL image with uint8 RGB pixels."""
    return isinstance(image, Image.Image) and image.mode == "RGB" and "transparency" not in image.info


def is_elsewhere(image: object) -> TypeGuard["torch.Tensor"]:
    """Return whether an image is a tensor on another device than the CPU."""
    return is_torch_available() and isinstance(image, torch.Tensor) and image.device.type not in ("cpu", "meta")


def is_float(image: "np.ndarray | torch.Tensor") -> bool:
    """Return whether an array or tensor holds floats."""
    return image.dtype.kind == "f" if isinstance(image, np.ndarray) else bool(image.is_floating_point())


def has_fractions(image: "Image.Image | np.ndarray | torch.Tensor") -> bool:
    """Return whether a PIL image, array or tensor holds floats within 0..1."""
    if isinstance(image, Image.Image):
        return image.mode == "F" and bool(np.asarray(image).max() <= 1)
    return is_float(image) and bool(image.max() <= 1)


def as_levels(image: "np.ndarray | torch.Tensor") -> "np.ndarray | torch.Tensor":
    """Convert an array or tensor of floats in 0..255 to uint8."""
    return np.rint(image).astype(np.uint8) if isinstance(image, np.ndarray) else image.round().to(torch.uint8)


def check_array(image: "np.ndarray | torch.Tensor") -> None:
    """Check an array or tensor of one image; a tensor is checked where it is.

    Raises:
        UnusableImage: If the rules at the head of this file refuse it.
    """
    if not is_elsewhere(image):
        check_numbers(_as_array(image))
        return
    _check_shape(tuple(image.shape))
    if image.is_floating_point():
        low, high = float(image.min()), float(image.max())
        _check_floats(bool(image.isfinite().all()), low, high, lambda: bool((image != image.round()).any()))
    elif image.dtype != torch.uint8:
        check_numbers(_as_array(image))


def rgb_levels(image: "torch.Tensor", data_format: str | None, *, to_uint8: bool) -> "torch.Tensor | None":
    """Return uint8 `(3, H, W)` of a tensor with three channels, on its device; None for others, which use the CPU."""
    if image.ndim != 3 or not (image.dtype == torch.uint8 or (to_uint8 and image.is_floating_point())):
        return None
    pixels = image.permute(2, 0, 1) if _is_channels_last(tuple(image.shape), data_format) else image
    if len(pixels) != 3:
        return None
    if pixels.dtype != torch.uint8:
        pixels = pixels.float() if pixels.dtype == torch.bfloat16 else pixels
        pixels = (pixels * (255 if float(pixels.max()) <= 1 else 1)).round().to(torch.uint8)
    return pixels


def check_numbers(pixels: np.ndarray) -> None:
    """Check shape, dtype and values of an array."""
    _check_shape(pixels.shape)
    if pixels.dtype == np.uint8:
        return
    if _is_16_bit(pixels.dtype):
        if 0 < pixels.max() < 256:
            reason = f"has 16-bit values of at most {pixels.max()}, which as 16 bits are black"
            raise UnusableImage(reason, "Convert it to uint8, or multiply it by 257.")
        return
    if not np.issubdtype(pixels.dtype, np.floating):
        raise UnusableImage(f"has the unsupported dtype {pixels.dtype}", USE_UINT8)

    def has_fractions() -> bool:
        return any(bool((row != np.rint(row)).any()) for row in pixels.swapaxes(0, 1))

    _check_floats(bool(np.isfinite(pixels).all()), float(pixels.min()), float(pixels.max()), has_fractions)


def _check_shape(shape: tuple[int, ...]) -> None:
    if len(shape) not in (2, 3):
        fix = "Pass (height, width, channels), (channels, height, width), or (height, width) if it is gray."
        raise UnusableImage(f"has {len(shape)} axes ({'x'.join(map(str, shape))})", fix)
    size = prod(shape)
    if size == 0:
        raise UnusableImage(f"is empty, shape {shape}", "Pass at least 1x1 pixels.")
    check_size(1, size // (min(shape[0], shape[-1]) if len(shape) == 3 else 1))


def _check_floats(are_finite: bool, low: float, high: float, has_fractions: Callable[[], bool]) -> None:
    if not are_finite:
        raise UnusableImage("has values that are NaN or infinite", "Replace them.")
    if low < 0 or high > 255:
        raise UnusableImage(f"has values in {low:g}..{high:g}", USE_UINT8)
    if 1 < high < SURELY_BYTES and has_fractions():
        reason = f"has values in {low:g}..{high:g}, which may be fractions or dark pixels"
        raise UnusableImage(reason, "Clip it to 0..1, or convert it to uint8 in 0..255.")


def array_pixels(
    image: "np.ndarray | torch.Tensor", *, to_rgb: bool, to_uint8: bool, data_format: str | None
) -> np.ndarray:
    """Return the pixels `(C, H, W)` of an array or tensor; uint8 is not copied, floats stay without `to_uint8`."""
    pixels = _as_array(image)
    pixels = pixels[None] if pixels.ndim == 2 else _channels_first(pixels, data_format)
    if _is_16_bit(pixels.dtype):
        pixels = (pixels >> 8).astype(np.uint8)
    if to_uint8 and pixels.dtype != np.uint8:
        pixels = _rounded(pixels, 255 if pixels.max() <= 1 else 1)
    if to_rgb and len(pixels) == 4 and pixels.dtype == np.uint8:
        return picture_pixels(Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))), to_rgb=True)
    if to_rgb and len(pixels) == 4:
        opaque = pixels[3:] / (1 if pixels.max() <= 1 else 255)
        pixels = pixels[:3] * opaque + (1 if pixels.max() <= 1 else 255) * (1 - opaque)
    return pixels.repeat(3, axis=0) if to_rgb and len(pixels) == 1 else pixels


def picture_pixels(image: Image.Image, *, to_rgb: bool, to_uint8: bool = True) -> np.ndarray:
    """Return the pixels `(C, H, W)` of a PIL image.

    Raises:
        UnusableImage: If its mode or its values are refused.
    """
    if image.mode in NUMBER_MODES:
        return _number_pixels(image, to_rgb=to_rgb, to_uint8=to_uint8)
    if image.mode not in COLOR_MODES:
        raise UnusableImage(f"has the PIL mode {image.mode!r}", "Convert it to 'L' or 'RGB'.")
    try:
        pixels = _drawn(image) if to_rgb else np.asarray(image)
    except Exception as error:  # PIL raises what it likes on broken palettes
        reason = f"of PIL mode {image.mode!r} cannot be read ({error})"
        raise UnusableImage(reason, "Convert it to 'RGB'.") from error
    if pixels.dtype == bool:  # PIL mode "1"
        pixels = pixels.astype(np.uint8) * 255
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _number_pixels(image: Image.Image, *, to_rgb: bool, to_uint8: bool) -> np.ndarray:
    numbers = np.asarray(image)
    if image.mode == "I":
        if numbers.min() < 0 or numbers.max() > 65535:
            reason = f"of PIL mode 'I' has values in {numbers.min()}..{numbers.max()}, outside of 16 bits"
            raise UnusableImage(reason, "Convert it to 'L' or 'RGB'.")
        numbers = numbers.astype(np.uint16)
    check_numbers(numbers)
    pixels = array_pixels(numbers, to_rgb=to_rgb, to_uint8=to_uint8, data_format=None)
    key = image.info.get("transparency")
    if to_rgb and isinstance(key, int) and image.mode != "F":
        pixels = np.where(numbers == key, np.uint8(255), pixels)
    return pixels


def _drawn(image: Image.Image) -> np.ndarray:
    """Draw an image to `(H, W, 3)`; conversions run strip by strip, so that no second image is in memory."""
    rows = max(1, STRIP // image.width)
    if (image.mode == "RGB" and "transparency" not in image.info) or image.height <= rows:
        return np.asarray(_rgb(image))
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        pixels[top : top + rows] = np.asarray(_rgb(strip))
    return pixels


def _rounded(pixels: np.ndarray, scale: int) -> np.ndarray:
    """Multiply floats `(C, H, W)` by a scale and round them to uint8, row by row."""
    rounded = np.empty(pixels.shape, np.uint8)
    rows = max(1, STRIP // pixels.shape[2])
    for top in range(0, pixels.shape[1], rows):
        rounded[:, top : top + rows] = np.rint(pixels[:, top : top + rows] * scale)
    return rounded


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "LAB":
        from PIL import ImageCms

        profiles = (ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"))
        converted = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
        assert converted is not None
        return converted
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    # PIL knows no direct way from premultiplied gray.
    rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    white = Image.new("RGB", rgba.size, "white")
    white.paste(rgba, mask=rgba.getchannel("A"))
    return white


def _as_array(image: "np.ndarray | torch.Tensor") -> np.ndarray:
    if isinstance(image, np.ndarray):
        return image
    try:
        image = image.detach().cpu()
        return np.asarray((image.float() if image.dtype == torch.bfloat16 else image).numpy())
    except (RuntimeError, TypeError, NotImplementedError) as error:
        reason = f"is a tensor that has no values to read ({str(error).splitlines()[0]})"
        raise UnusableImage(reason, "Pass a dense tensor with data.") from error


def _is_16_bit(dtype: np.dtype[Any]) -> bool:
    return bool(dtype.kind == "u" and dtype.itemsize == 2)


def _channels_first(pixels: np.ndarray, data_format: str | None) -> np.ndarray:
    return pixels.transpose(2, 0, 1) if _is_channels_last(pixels.shape, data_format) else pixels


def _is_channels_last(shape: tuple[int, ...], data_format: str | None) -> bool:
    first, last = shape[0] in (1, 3, 4), shape[-1] in (1, 3, 4)
    if data_format is None and first == last:
        reason = f"of shape {shape} has {'either end' if first else 'no axis'} for a channel axis of 1, 3 or 4"
        raise UnusableImage(reason, "Pass `input_data_format`, or a PIL image.")
    return last if data_format is None else str(data_format).endswith("last")
