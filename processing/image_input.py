# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""From what a user hands in to pixels: every image is loaded, turned upright and checked here, or refused by name.

Accepted: a path, a URL, a data URI or base64 text, encoded bytes, a PIL image, and arrays or tensors of three axes (or
four, a stack of images) that hold uint8 in 0..255, or floats in 0..1 or 0..255. Everything else raises
`ImageInputError` with the sample, the image, the reason and what to do.
"""

import base64
import binascii
import io
import os
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from transformers.utils import is_torch_available

if is_torch_available():
    import torch

EXIF_ORIENTATION = 0x0112
ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
COLOR_MODES = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", *ALPHA_MODES)
DOWNLOAD_TIMEOUT = 30  # seconds
USE_UINT8 = "Convert it to uint8 in 0..255, or to floats in 0..1."


class ImageInputError(ValueError):
    """One image of the input cannot be used.

    Attributes:
        sample: Index of the sample, or None when images came as a flat list.
        image: Index of the image, inside its sample where there is one.
        reason: What is wrong with it.
        fix: What to do about it.
    """

    def __init__(self, sample: int | None, image: int, reason: str, fix: str) -> None:
        where = f"Image {image}" if sample is None else f"Image {image} of sample {sample}"
        super().__init__(f"{where} {reason}. {fix}")
        self.sample, self.image, self.reason, self.fix = sample, image, reason, fix

    def __reduce__(self) -> tuple[type["ImageInputError"], tuple[int | None, int, str, str]]:
        return type(self), (self.sample, self.image, self.reason, self.fix)


def load_images(images: Any) -> Any:
    """Load every image of a single image, a list, or a list per sample, and keep that structure.

    Returns:
        PIL images, arrays and tensors; a stack of images with four axes becomes a list.

    Raises:
        ImageInputError: For the first image that cannot be used.
    """
    if not isinstance(images, list | tuple):
        loaded = _load_all([images], None)
        return loaded if getattr(images, "ndim", 3) == 4 else loaded[0]
    nested = [isinstance(item, list | tuple) for item in images]
    if not any(nested):
        return _load_all(images, None)
    if not all(nested):
        raise ImageInputError(
            None, nested.index(False), "is not in a list while others are", "Pass a flat list, or one list per sample."
        )
    return [_load_all(item, sample) for sample, item in enumerate(images)]


def to_channels_first(
    image: Any, sample: int | None, number: int, *, to_rgb: bool, to_uint8: bool, data_format: str | None
) -> np.ndarray:
    """Turn a loaded image into an array `(C, H, W)`.

    Args:
        image: A PIL image, array or tensor as `load_images` returns it.
        sample: Index of the sample, for errors.
        number: Index of the image, for errors.
        to_rgb: Whether to convert to three channels; transparent pixels are drawn on white.
        to_uint8: Whether to convert floats to uint8, which resizing needs for results that do not depend on the input.
        data_format: "channels_first" or "channels_last" of an array; None to find out.
    """
    if isinstance(image, Image.Image):
        if image.mode not in COLOR_MODES:
            raise ImageInputError(sample, number, f"has the PIL mode {image.mode!r}", "Convert it to 'L' or 'RGB'.")
        pixels = np.array(_rgb(image) if to_rgb else image)
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    pixels = _channels_first(_as_array(image), sample, number, data_format)
    if to_uint8 and pixels.dtype != np.uint8:
        pixels = np.rint(pixels * (255 if pixels.max() <= 1 else 1)).astype(np.uint8)
    if to_rgb and len(pixels) == 4 and pixels.dtype == np.uint8:
        return to_channels_first(
            Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))),
            sample,
            number,
            to_rgb=True,
            to_uint8=to_uint8,
            data_format=None,
        )
    if to_rgb and len(pixels) == 4:
        pixels = pixels[:3] * pixels[3:] + (1 - pixels[3:])
    return pixels.repeat(3, axis=0) if to_rgb and len(pixels) == 1 else pixels


def _load_all(sources: Sequence[Any], sample: int | None) -> list[Any]:
    loaded: list[Any] = []
    for number, source in enumerate(sources):
        is_array = isinstance(source, np.ndarray) or (is_torch_available() and isinstance(source, torch.Tensor))
        if is_array and source.ndim == 4:
            loaded.extend(_checked(image, sample, number) for image in source)
        elif is_array:
            loaded.append(_checked(source, sample, number))
        elif isinstance(source, Image.Image):
            loaded.append(_upright(source, sample, number))
        elif isinstance(source, str | Path | bytes | bytearray):
            loaded.append(_opened(source, sample, number))
        else:
            reason = "is None" if source is None else f"is of type {type(source).__name__}"
            fix = "Pass a path, URL, bytes, PIL image, array or tensor."
            raise ImageInputError(sample, number, reason, fix)
    return loaded


def _opened(source: str | Path | bytes | bytearray, sample: int | None, number: int) -> Image.Image:
    """Read, decode and turn one source; an error names its file."""
    try:
        return _upright(_decode(_read(source, sample, number), sample, number), sample, number)
    except ImageInputError as error:
        if str(source) in error.reason or not (isinstance(source, Path) or _is_file(source)):
            raise
        raise ImageInputError(sample, number, f"({source!s}) {error.reason}", error.fix) from error


def _is_file(source: Any) -> bool:
    return isinstance(source, str) and len(source) <= 1024 and os.path.isfile(source)


def _read(source: str | Path | bytes | bytearray, sample: int | None, number: int) -> bytes:
    if isinstance(source, bytes | bytearray):
        data = bytes(source)
    elif isinstance(source, str) and source.startswith(("http://", "https://")):
        data = _download(source, sample, number)
    elif isinstance(source, str) and source.startswith("data:image/"):
        data = _base64(source.partition(",")[2]) or b""
    elif os.path.isdir(source):
        raise ImageInputError(sample, number, f"{str(source)!r} is a directory", "Pass the path of a file.")
    elif os.path.isfile(source):
        data = Path(source).read_bytes()
    elif isinstance(source, str) and (decoded := _base64(source)):
        data = decoded
    else:
        shown = str(source) if len(str(source)) <= 120 else f"{str(source)[:120]}..."
        raise ImageInputError(
            sample, number, f"{shown!r} does not exist", "Pass an existing file, a URL, a data URI or base64 text."
        )
    if not data:
        raise ImageInputError(sample, number, "has no bytes", "Write or download the file again.")
    return data


def _download(url: str, sample: int | None, number: int) -> bytes:
    # Not huggingface_hub's session, which refuses every address when HF_HUB_OFFLINE is set.
    request = urllib.request.Request(url, headers={"User-Agent": "fila"})
    try:
        with urllib.request.urlopen(request, timeout=DOWNLOAD_TIMEOUT) as response:
            return bytes(response.read())
    except OSError as error:
        raise ImageInputError(sample, number, f"{url!r} cannot be read ({error})", "Check the address.") from error


def _base64(text: str) -> bytes | None:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except binascii.Error:
        return None


def _decode(data: bytes, sample: int | None, number: int) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _bomb(sample, number) from error
    except Exception as error:  # plugins of PIL raise what they like on broken headers
        reason = f"is no image PIL can open; it begins with {data[:16]!r}"
        raise ImageInputError(sample, number, reason, "Pass an image file such as PNG or JPEG.") from error


def _upright(image: Image.Image, sample: int | None, number: int) -> Image.Image:
    if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise _bomb(sample, number)
    if image.width < 1 or image.height < 1:
        raise ImageInputError(sample, number, f"is {image.height}x{image.width} pixels", "Pass at least 1x1 pixels.")
    try:
        image.load()
        return ImageOps.exif_transpose(image) if image.getexif().get(EXIF_ORIENTATION, 1) != 1 else image
    except Exception as error:  # plugins of PIL raise what they like on broken data
        reason = f"cannot be decoded ({error})"
        raise ImageInputError(sample, number, reason, "The file is truncated or damaged; get it again.") from error


def _bomb(sample: int | None, number: int) -> ImageInputError:
    reason = f"has more than the {Image.MAX_IMAGE_PIXELS} pixels PIL allows"
    return ImageInputError(sample, number, reason, "If you trust it, raise `PIL.Image.MAX_IMAGE_PIXELS`.")


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode not in ALPHA_MODES and "transparency" not in image.info:
        return image.convert("RGB")
    # PIL knows no direct way from premultiplied gray.
    rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _as_array(image: Any) -> np.ndarray:
    if isinstance(image, np.ndarray):
        return image
    image = image.detach().cpu()
    return np.asarray((image.float() if image.is_floating_point() else image).numpy())


def _checked(image: Any, sample: int | None, number: int) -> Any:
    pixels = _as_array(image)
    if pixels.ndim != 3:
        shape = "x".join(map(str, pixels.shape))
        fix = "Pass (height, width, channels) or (channels, height, width); a gray image needs a channel axis."
        raise ImageInputError(sample, number, f"has {pixels.ndim} axes ({shape})", fix)
    if pixels.size == 0:
        raise ImageInputError(sample, number, f"is empty, shape {pixels.shape}", "Pass at least 1x1 pixels.")
    if pixels.dtype != np.uint8:
        if not np.issubdtype(pixels.dtype, np.floating):
            raise ImageInputError(sample, number, f"has the unsupported dtype {pixels.dtype}", USE_UINT8)
        if not np.isfinite(pixels).all():
            raise ImageInputError(sample, number, "has values that are NaN or infinite", "Replace them.")
        if pixels.min() < 0 or pixels.max() > 255:
            raise ImageInputError(sample, number, f"has values in {pixels.min():g}..{pixels.max():g}", USE_UINT8)
    return image


def _channels_first(pixels: np.ndarray, sample: int | None, number: int, data_format: str | None) -> np.ndarray:
    first, last = pixels.shape[0] in (1, 3, 4), pixels.shape[-1] in (1, 3, 4)
    if data_format is None and first == last:
        reason = f"of shape {pixels.shape} has {'either end' if first else 'no axis'} for a channel axis of 1, 3 or 4"
        raise ImageInputError(sample, number, reason, "Pass `input_data_format`, or a PIL image.")
    is_last = last if data_format is None else str(data_format).endswith("last")
    return pixels.transpose(2, 0, 1) if is_last else pixels
