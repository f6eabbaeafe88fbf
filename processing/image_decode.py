# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Decode bytes to an upright PIL image; reject images that would cost too much before their pixels are decoded.

The largest image is PIL's own limit, `PIL.Image.MAX_IMAGE_PIXELS`: above it PIL warns; here it is an error. If a file
states a second size after its header, the size that is decoded counts.

Color profiles are ignored, as in the pipelines that vision towers are trained with. Metadata other than the
orientation is dropped.
"""

import io
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageChops, UnidentifiedImageError

from .image_error import UnusableImage
from .image_whole import CUT, TILE_LENGTH, TILE_WIDTH, check_png_rows, checked

# Tried in this order. Formats that run other programs (EPS), cannot tell their own files from others (TGA, DIB) or are
# decoded in Python (QOI) are left out.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "AVIF", "JPEG2000", "ICO")
PLUGIN_FORMATS = ("HEIF", "JXL")  # open where a package has registered them with PIL
STILL_FORMATS = ("MPO", "ICO")  # the further frames of these are previews and sizes of the first
# Their decoders hold several copies of the image, so only half as many pixels are allowed.
COSTLY_FORMATS = ("WEBP", "AVIF", "JPEG2000", *PLUGIN_FORMATS)
# Frames count from 0; to go to one, Pillow spends up to a millisecond on each before it.
MAX_FRAME = 2_000
# Pixels that are decoded to go to a frame of an animation, where each is drawn on the one before it, in images at the
# pixel limit. A video that is an animation has the same.
MAX_ANIMATION = 8
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
PAGE_FORMATS = ("TIFF", *STILL_FORMATS)  # any frame of these is decoded by itself
PHOTOMETRIC, BITS = 262, 258  # tags of TIFF
# How gray levels of few bits are stretched, by Pillow's name for them.
STRETCHED = {"L;2": 85, "L;4": 17}
DEEP = "RGB;16B"  # and for colors of 16 bits
OPEN_FRAME = "Pass a PIL image that stands at the frame, or write the frame to a file of its own."


def decode(data: bytes, frame: int | None = None) -> Image.Image:
    """Decode an image and turn it upright.

    Args:
        data: An encoded image.
        frame: Frame of an animated or multi-page file, from 0.

    Raises:
        UnusableImage: If the image is unreadable, too large or damaged, or has several frames and none was chosen.
    """
    image = open_header(io.BytesIO(checked(data, frame)), data[:16])
    raw = _raw_mode(image)
    if frame and raw in (*STRETCHED, DEEP) and "transparency" in image.info:
        reason = "is an animated PNG with a transparent level or color, not of 8 bits"
        raise UnusableImage(reason, "Encode it again, with an alpha channel.")
    choose_frame(image, frame)
    transparent = _deep_key(image, data) if raw == DEEP and "transparency" in image.info else None
    load(image)
    # Rows are decoded in order, so all of them are there where anything is in the last one.
    if image.format == "PNG" and (frame or image.info.get("interlace") or not _has_last_row(image)):
        check_png_rows(data, frame or 0)
    if transparent is not None:
        image.paste("white", mask=transparent)
    return upright(image)


def choose_frame(image: Image.Image, frame: int | None) -> None:
    """Go to a frame; None is allowed only for a file of one frame.

    Raises:
        UnusableImage: If there is no such frame, or there are several and none was chosen.
    """
    if frame is None and _has_frames(image):
        raise UnusableImage(
            f"is a {image.format} file of several frames",
            "Choose one: `#frame=0` after a path or an address, or a PIL image that stands at the frame.",
        )
    if frame is not None:
        if frame < 0:
            raise UnusableImage("has no page 0", "Pages count from 1, and frames from 0.")
        if frame > MAX_FRAME:
            raise UnusableImage(f"has to be decoded up to frame {frame}, and {MAX_FRAME} is the last", OPEN_FRAME)
        limit, pixels = Image.MAX_IMAGE_PIXELS, image.width * image.height
        if limit is not None and image.format not in PAGE_FORMATS and frame * pixels > MAX_ANIMATION * limit:
            reason = f"has {frame} frames of {image.height}x{image.width} pixels before frame {frame}, which are more "
            raise UnusableImage(f"{reason}than {MAX_ANIMATION} times the {limit} that PIL allows", OPEN_FRAME)
        try:
            image.seek(frame)
        except Exception as error:  # plugins of PIL raise what they like
            raise UnusableImage(f"has no frame {frame} ({error})", "Frames count from 0.") from error
        check_size(image.width, image.height, image.format)


def open_header(file: BinaryIO, prefix: bytes = b"") -> Image.Image:
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
    except Exception as error:  # plugins of PIL raise any exception on broken headers
        reason = f"is no image PIL can open ({error})"
        raise UnusableImage(reason, "Pass an image file such as PNG or JPEG.") from error
    check_size(image.width, image.height, image.format)
    tags = getattr(image, "tag_v2", None) or {}
    check_size(_integer(tags.get(TILE_WIDTH)), _integer(tags.get(TILE_LENGTH)))
    return image


def upright(image: Image.Image) -> Image.Image:
    """Decode a PIL image if needed and turn it upright; return the image itself if nothing changes."""
    check_size(image.width, image.height)
    load(image)
    transpose, levels = TRANSPOSES.get(orientation(image)), _true_levels(image)
    if transpose is None:
        return levels
    turned = levels.transpose(transpose)
    for name in ORIENTATION_HOLDERS:
        turned.info.pop(name, None)
    return turned


def load(image: Image.Image) -> None:
    """Decode a PIL image if it is not decoded yet."""
    raw, key = _raw_mode(image), image.info.get("transparency")
    if image.mode == "RGB" and isinstance(key, tuple) and (raw == DEEP or max(key) > 255):
        reason = "is an RGB image of 8 bits with a transparent color of 16"
        raise UnusableImage(reason, "Pass the file, not the PIL image that was made of it.")
    try:
        image.load()
    except Exception as error:  # plugins of PIL raise any exception on broken data
        raise UnusableImage(f"cannot be decoded ({error})", CUT) from error
    check_size(image.width, image.height)  # an icon has the size of the file inside it
    if raw in STRETCHED and isinstance(key, int):  # in place: the image may come again, and is no longer encoded then
        image.info["transparency"] = key * STRETCHED[raw]


def _raw_mode(image: Image.Image) -> str:
    """Return Pillow's raw mode of a PNG that is still encoded, else an empty string."""
    tiles = getattr(image, "tile", None)
    return str(tiles[0][3]) if image.format == "PNG" and tiles else ""


def _has_last_row(image: Image.Image) -> bool:
    box = (0, image.height - 1, image.width, image.height)
    return bool(np.asarray(image.resize((image.width, 1), Image.Resampling.NEAREST, box)).any())


def _deep_key(image: Image.Image, data: bytes) -> Image.Image:
    """Mask the transparent color of a PNG of 16-bit colors, and take the color key from the image.

    Pillow keeps the high bytes of such colors. The low ones are decoded here as if they were the high ones.
    """
    low, high = open_header(io.BytesIO(data)), open_header(io.BytesIO(data))
    low.tile = [low.tile[0]._replace(args="RGB;16L")]  # type: ignore[attr-defined]
    key = image.info.pop("transparency")
    mask = Image.new("L", image.size, 255)
    for picture, shift in ((low, 0), (high, 8)):
        picture.info.pop("transparency")
        load(picture)
        for band, value in enumerate(key):
            table = [255 * (level == value >> shift & 255) for level in range(256)]
            mask = ImageChops.darker(mask, picture.getchannel(band).point(table))
    return mask


def _true_levels(image: Image.Image) -> Image.Image:
    """Return gray levels as TIFF defines them; Pillow reads them as 16 bits that grow brighter. Keep other images."""
    tags = getattr(image, "tag_v2", None)
    if image.format != "TIFF" or tags is None:
        return image
    is_inverted, bits = tags.get(PHOTOMETRIC) == 0, tags.get(BITS)
    if image.mode == "F" and is_inverted:
        raise UnusableImage("is a TIFF of floats of which the least is white", "Convert it to 'L'.")
    if not image.mode.startswith("I;16") or not (is_inverted or bits == (12,)):
        return image
    levels = np.asarray(image)
    levels = levels << 4 | levels >> 8 if bits == (12,) else levels
    return Image.fromarray(65_535 - levels if is_inverted else levels)


def orientation(image: Image.Image, *, of_header: bool = False) -> int:
    """Return the EXIF or XMP orientation, 1 to 8; 1 if there is none or it cannot be read.

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
    """Reject more pixels than PIL allows, or than half of that in one of the `COSTLY_FORMATS`.

    Raises:
        UnusableImage: Then, and if there is no pixel at all.
    """
    if width < 1 or height < 1:
        raise UnusableImage(f"is {height}x{width} pixels", "Pass at least 1x1 pixels.")
    if Image.MAX_IMAGE_PIXELS is None:
        return
    if width * height > Image.MAX_IMAGE_PIXELS // (2 if form in COSTLY_FORMATS else 1):
        raise _too_large(f", which are half as many in a file of type {form}" if form in COSTLY_FORMATS else "")


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


def _integer(value: object) -> int:
    return value if isinstance(value, int) else 1
