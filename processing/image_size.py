# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The size of an image from its file's header."""

import re
from collections.abc import Callable
from pathlib import Path

from PIL import TiffImagePlugin

from .canvas_plan import Size
from .image_decode import choose_frame, open_header, orientation
from .image_error import UnusableImage
from .image_input import ImageInputError
from .image_source import document_module, document_path, split_frame

SIDEWAYS = (5, 6, 7, 8)


def read_size(source: str, number: int = 0, page_size: Callable[[float, float], Size] | None = None) -> Size:
    """Read the size of an upright image from its file's header or from a text like `2200x1700` (height x width).

    Args:
        source: A path or a size.
        number: Index of the image, for errors.
        page_size: As in `load_images`: a PDF's page has the size at which it would be drawn.

    Raises:
        ImageInputError: If it is neither, or the file is no image.

    Example:
        >>> read_size("2200x1700")
        Size(height=2200, width=1700)
    """
    name, frame = split_frame(source)
    path = Path(name)
    if not path.is_file():
        if match := re.fullmatch(r"(\d+)[xX](\d+)", source):
            return Size(int(match[1]), int(match[2]))
        raise ImageInputError(None, number, f"{source!r} does not exist", "Pass a file or a size, height x width.")
    try:
        if (document := document_path(name)) is not None:
            size: Size = document_module().page_pixels(document, frame, page_size)
            return size
        with path.open("rb") as file:
            prefix = file.read(16)
            if not prefix:
                raise UnusableImage("has no bytes", "Write or download the file again.")
            image = open_header(file, prefix)
            choose_frame(image, frame)
            sideways = orientation(image, of_header=True) in SIDEWAYS
            width, height = image.size
            if isinstance(image, TiffImagePlugin.TiffImageFile):  # PIL turns the size of these, in newer versions
                width, height = image.tag_v2[TiffImagePlugin.IMAGEWIDTH], image.tag_v2[TiffImagePlugin.IMAGELENGTH]
            return Size(width, height) if sideways else Size(height, width)
    except UnusableImage as error:
        raise ImageInputError(None, number, f"({source}) {error.reason}", error.fix) from error
