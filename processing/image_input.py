# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Turn users' input into pixels: load each image, turn it upright and check it, or reject it by name.

Accepted: a path, a data URI or base64 text, encoded bytes, an open file, an address on an allowed host, a PIL image of
any mode, and arrays or tensors of two or three axes (or four, a stack of images). The rules for each are in the files
that this one puts together: `image_source.py` (what is read), `image_download.py` (addresses), `image_decode.py`
(sizes, frames, orientation) and `image_pixels.py` (modes and numbers). Everything else raises `ImageInputError` with
the sample, the image, the reason and what to do.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
from PIL import Image
from transformers.utils import is_torch_available

from .image_decode import decode, upright
from .image_error import ImageInputError, UnusableImage, with_name
from .image_pixels import array_pixels, check_array, is_array, picture_pixels, rgb_levels
from .image_source import (
    document_module,
    document_path,
    is_document,
    is_encoded,
    kind_of,
    read_source,
    shown,
    split_frame,
)

if is_torch_available():
    import torch

__all__ = [
    "ImageInputError",
    "LoadedImages",
    "image_size",
    "load_images",
    "resized",
    "scales_to_given",
    "to_channels_first",
]

# Key of a picture's `info`: how many times as high and as wide the image was that it was resized from.
_RESIZED_BY = "fila_resized_by"


class LoadedImages(list[Any]):
    """Images, or lists of images per sample, that `load_images` has read and checked: it returns them as they are."""


def load_images(
    images: object,
    *,
    hosts: Sequence[str] | None = None,
    keep: Callable[[Any], bool] | None = None,
    page_size: Callable[[float, float], Any] | None = None,
) -> Any:
    """Load every image of a single image, a list, or a list per sample, and keep that structure.

    Args:
        images: The images.
        hosts: Hosts that addresses may name; by default those that the environment variable `FILA_IMAGE_HOSTS` names,
            see `image_download.py`.
        keep: Predicate of sources that are not loaded, for a caller that may not need their pixels.
        page_size: Function from height and width of a PDF's page to pixels, such as an image processor's `page_size`;
            by default pages are drawn at 200 dots per inch.

    Returns:
        PIL images, arrays and tensors; a stack of images with four axes becomes a list. `LoadedImages` for a list of
        which nothing was left as it came.

    Raises:
        ImageInputError: For the first image that cannot be used.
    """
    if isinstance(images, LoadedImages):
        return images
    if not isinstance(images, list | tuple):
        loaded = _load_all([images], None, hosts, keep, page_size)
        return loaded if getattr(images, "ndim", 3) == 4 else loaded[0]
    made = LoadedImages if keep is None else list
    if any(isinstance(item, list | tuple) for item in images):
        images = [[] if item is None else item for item in images]  # trainers write None for a prompt without images
    nested = [isinstance(item, list | tuple) for item in images]
    if not any(nested):
        return made(_load_all(images, None, hosts, keep, page_size))
    if not all(nested):
        raise ImageInputError(
            None, nested.index(False), "is not in a list while others are", "Pass a flat list, or one list per sample."
        )
    return made([_load_all(item, sample, hosts, keep, page_size) for sample, item in enumerate(images)])


def to_channels_first(
    image: object, sample: int | None, number: int, *, to_rgb: bool, to_uint8: bool, data_format: str | None
) -> np.ndarray:
    """Turn a loaded image into an array `(C, H, W)`, without a copy where the pixels are there already.

    Args:
        image: A PIL image, array or tensor as `load_images` returns it.
        sample: Index of the sample, for errors.
        number: Index of the image, for errors.
        to_rgb: Whether to convert to three channels; transparent pixels are drawn on white.
        to_uint8: Whether to convert floats to uint8, which resizing needs for results that do not depend on the input.
        data_format: "channels_first" or "channels_last" of an array; None to find out.

    Raises:
        ImageInputError: If mode, values or shape are refused.
    """
    with _named(sample, number):
        if isinstance(image, Image.Image):
            return picture_pixels(image, to_rgb=to_rgb, to_uint8=to_uint8)
        return array_pixels(
            cast("np.ndarray | torch.Tensor", image), to_rgb=to_rgb, to_uint8=to_uint8, data_format=data_format
        )


def rgb_tensor(
    image: object, sample: int | None, number: int, *, to_uint8: bool, data_format: str | None
) -> "torch.Tensor | None":
    """Return uint8 `(3, H, W)` of a tensor on another device, on that device; None if `to_channels_first` is needed.

    Raises:
        ImageInputError: If its shape is refused.
    """
    with _named(sample, number):
        return rgb_levels(cast("torch.Tensor", image), data_format, to_uint8=to_uint8)


def image_size(image: object, sample: int | None, number: int, data_format: str | None = None) -> tuple[int, int]:
    """Return height and width of a loaded image; `data_format` as in `to_channels_first`."""
    if isinstance(image, Image.Image):
        return image.height, image.width
    pixels = to_channels_first(image, sample, number, to_rgb=False, to_uint8=False, data_format=data_format)
    return int(pixels.shape[1]), int(pixels.shape[2])


def resized(image: object, size: tuple[int, int], data_format: str | None = None) -> Image.Image:
    """Return a loaded image as RGB, resized to (height, width); `data_format` as in `to_channels_first`."""
    pixels = to_channels_first(image, None, 0, to_rgb=True, to_uint8=True, data_format=data_format)
    picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    picture = picture.resize(size[::-1], Image.Resampling.BICUBIC)
    picture.info[_RESIZED_BY] = (pixels.shape[1] / size[0], pixels.shape[2] / size[1])
    return picture


def scales_to_given(scales: Any, images: object) -> Any:
    """Convert image pixels per canvas pixel to pixels of the original images, for images that `resized` shrank.

    Args:
        scales: `(I, 2)` float, or a list with one `(2,)` per image, of what was drawn.
        images: What was drawn: an image, a list, or a list per sample.

    Returns:
        As `scales`.
    """
    items = images if isinstance(images, list | tuple) else [images]
    flat = [image for item in items for image in (item if isinstance(item, list | tuple) else [item])]
    ratios = [getattr(image, "info", {}).get(_RESIZED_BY) for image in flat]
    if not any(ratios):
        return scales
    factors = np.array([ratio or (1.0, 1.0) for ratio in ratios])
    factors = factors if isinstance(scales[0], np.ndarray) else scales[0].new_tensor(factors)
    return (
        [own * ratio for own, ratio in zip(scales, factors, strict=True)] if type(scales) is list else scales * factors
    )


def _load_all(
    sources: Sequence[Any],
    sample: int | None,
    hosts: Sequence[str] | None,
    keep: Callable[[Any], bool] | None,
    page_size: Callable[[float, float], Any] | None,
) -> list[Any]:
    loaded: list[Any] = []
    for number, source in enumerate(sources):
        with _named(sample, number, shown(source)):
            if keep is not None and keep(source):
                loaded.append(source)
            elif is_array(source):
                stack = source if source.ndim == 4 else [source]
                for image in stack:
                    check_array(image)
                loaded.extend(stack)
            elif isinstance(source, Image.Image):
                loaded.append(upright(source))
            elif is_encoded(source):
                loaded.append(_decoded(source, hosts, page_size))
            else:
                raise UnusableImage(kind_of(source), "Pass a path, URL, bytes, PIL image, array or tensor.")
    return loaded


def _decoded(
    source: object, hosts: Sequence[str] | None, page_size: Callable[[float, float], Any] | None
) -> Image.Image:
    """Return the picture of an encoded image, or of a page of a PDF."""
    content: Any
    if (path := document_path(source)) is not None:
        content, frame = path, split_frame(source)[1]
    else:
        content, frame = read_source(source, hosts)
        if not is_document(content[:1024]):
            return decode(content, frame)
    page: Image.Image = document_module().render_page(content, frame, page_size)
    return page


@contextmanager
def _named(sample: int | None, number: int, name: str | None = None) -> Iterator[None]:
    """Add the image's place in the input and its file to an error."""
    try:
        yield
    except UnusableImage as error:
        raise ImageInputError(sample, number, with_name(error.reason, name), error.fix) from error
