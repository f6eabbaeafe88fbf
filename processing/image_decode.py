# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Encoded bytes to an upright PIL image, with everything that could cost too much refused before pixels are decoded.

The largest image is PIL's own limit, `PIL.Image.MAX_IMAGE_PIXELS`: above it PIL warns, here it is an error. Where a
file can say one size in its header and another one further on, the size that is decoded counts.

What is not done: color profiles are ignored, as in the pipelines that vision towers are trained with; metadata other
than the orientation is dropped.
"""

import io
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from .image_error import UnusableImage

# Tried in this order. Formats that run other programs (EPS), cannot tell their own files from others (TGA, DIB) or are
# decoded in Python (QOI) are left out.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "AVIF", "JPEG2000", "ICO")
PLUGIN_FORMATS = ("HEIF", "JXL")  # open where a package has registered them with PIL
STILL_FORMATS = ("MPO", "ICO")  # the further frames of these are previews and sizes of the first
# Their decoders hold several copies of the image, so only half as many pixels are allowed.
COSTLY_FORMATS = ("WEBP", "AVIF", "JPEG2000", *PLUGIN_FORMATS)
# More blocks of a PNG or JPEG than any encoder writes; PIL spends microseconds on each.
MAX_BLOCKS = 2**16
# Of a progressive JPEG: encoders write about ten, and each costs a pass over the whole image.
MAX_SCANS = 100
ORIENTATION = 0x0112
TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ORIENTATION_HOLDERS = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
TILE_WIDTH, TILE_LENGTH = 322, 323  # tags of TIFF


def decode(data: bytes, frame: int | None = None) -> Image.Image:
    """Decode an image and turn it upright.

    Args:
        data: An encoded image.
        frame: Frame of an animated or multi-page file, from 0.

    Raises:
        UnusableImage: If it is no image, is too large, damaged, or has several frames and none was chosen.
    """
    check_blocks(data)
    image = open_header(io.BytesIO(data), data[:16])
    choose_frame(image, frame)
    return upright(image)


def choose_frame(image: Image.Image, frame: int | None) -> None:
    """Go to a frame; None is right for a file of one frame alone.

    Raises:
        UnusableImage: If there is no such frame, or there are several and none was chosen.
    """
    if frame is None and _has_frames(image):
        raise UnusableImage(
            f"is a {image.format} file of several frames",
            "Choose one: `#frame=0` after a path or an address, or a PIL image that stands at the frame.",
        )
    if frame is not None:
        try:
            image.seek(frame)
        except Exception as error:  # plugins of PIL raise what they like
            raise UnusableImage(f"has no frame {frame} ({error})", "Frames count from 0.") from error
        check_size(image.width, image.height, image.format)


def open_header(file: Any, prefix: bytes = b"") -> Image.Image:
    """Open an image without decoding it, and check the size it will have.

    Args:
        file: A path or an open binary file.
        prefix: First bytes of it, for the message.
    """
    Image.init()
    formats = [name for name in FORMATS + PLUGIN_FORMATS if name in Image.OPEN]
    try:
        image = Image.open(file, formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large() from error
    except UnidentifiedImageError as error:
        reason = f"is no image PIL can open; it begins with {prefix!r}"
        raise UnusableImage(reason, "Pass an image file such as PNG or JPEG.") from error
    except Exception as error:  # plugins of PIL raise what they like on broken headers
        reason = f"is no image PIL can open ({error})"
        raise UnusableImage(reason, "Pass an image file such as PNG or JPEG.") from error
    check_size(image.width, image.height, image.format)
    tags = getattr(image, "tag_v2", None) or {}
    check_size(_integer(tags.get(TILE_WIDTH)), _integer(tags.get(TILE_LENGTH)))
    return image


def upright(image: Image.Image) -> Image.Image:
    """Decode a PIL image where that is still to do, and turn it upright; the image itself where it is."""
    check_size(image.width, image.height)
    try:
        image.load()
    except Exception as error:  # plugins of PIL raise what they like on broken data
        reason = f"cannot be decoded ({error})"
        raise UnusableImage(reason, "The file is truncated or damaged; get it again.") from error
    check_size(image.width, image.height)  # an icon has the size of the file inside it
    transpose = TRANSPOSES.get(orientation(image))
    if transpose is None:
        return image
    turned = image.transpose(transpose)
    for name in ORIENTATION_HOLDERS:
        turned.info.pop(name, None)
    return turned


def orientation(image: Image.Image, *, of_header: bool = False) -> int:
    """EXIF or XMP orientation, 1 to 8; 1 where there is none, or none that can be read.

    Args:
        image: The image.
        of_header: Read nothing more. A PNG without EXIF data in front is else decoded whole, to look for some behind.
    """
    try:
        exif = Image.Image.getexif(image) if of_header else image.getexif()
        return int(exif.get(ORIENTATION, 1))
    except Exception:  # broken metadata is no reason to lose an image
        return 1


def check_size(width: int, height: int, form: str | None = None) -> None:
    """Refuse more pixels than PIL allows, or half as many in one of the `COSTLY_FORMATS`.

    Raises:
        UnusableImage: Then, and if there is no pixel at all.
    """
    if width < 1 or height < 1:
        raise UnusableImage(f"is {height}x{width} pixels", "Pass at least 1x1 pixels.")
    if Image.MAX_IMAGE_PIXELS is None:
        return
    if width * height > Image.MAX_IMAGE_PIXELS // (2 if form in COSTLY_FORMATS else 1):
        raise _too_large(f", which are half as many in a file of type {form}" if form in COSTLY_FORMATS else "")


def check_blocks(data: bytes) -> None:
    """Refuse a PNG or JPEG of more blocks or passes than a picture needs.

    Raises:
        UnusableImage: Then.
    """
    count = 0
    if data.startswith(b"\x89PNG"):
        position = 8
        while position + 8 <= len(data) and count <= MAX_BLOCKS:
            position += 12 + int.from_bytes(data[position : position + 4], "big")
            count += 1
    elif data.startswith(b"\xff\xd8"):
        position = 2
        while position + 4 <= len(data) and data[position : position + 2] != b"\xff\xda" and count <= MAX_BLOCKS:
            fill = data[position] != 0xFF or data[position + 1] == 0xFF
            position += 1 if fill else 2 + int.from_bytes(data[position + 2 : position + 4], "big")
            count += 1
        values = np.frombuffer(data, np.uint8)  # ten times as fast as `data.count`, which is felt beside the decoder
        if np.count_nonzero((values[:-1] == 0xFF) & (values[1:] == 0xDA)) > MAX_SCANS:
            raise UnusableImage(f"is a JPEG of more than {MAX_SCANS} passes", "Encode it again.")
    if count > MAX_BLOCKS:
        raise UnusableImage(f"is a file of more than {MAX_BLOCKS} blocks", "Encode it again.")


def _has_frames(image: Image.Image) -> bool:
    if image.format in STILL_FORMATS:
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # a broken second frame; the first one may be sound
        return False


def _too_large(which: str = "") -> UnusableImage:
    reason = f"has more than the {Image.MAX_IMAGE_PIXELS} pixels PIL allows{which}"
    return UnusableImage(reason, "If you trust it, raise `PIL.Image.MAX_IMAGE_PIXELS`.")


def _integer(value: Any) -> int:
    return value if isinstance(value, int) else 1
