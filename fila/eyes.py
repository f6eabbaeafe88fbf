# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Whose eyes `fila plan` and `fila view` use: an image processor and its token count; sizes from file headers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import TiffImagePlugin
from transformers import AutoProcessor
from transformers.utils import is_torchvision_available

from fila import FilaImageProcessor, FilaImageProcessorPil, FilaVideoProcessor
from fila.processing.canvas_plan import Size
from fila.processing.image_decode import choose_frame, open_header, orientation
from fila.processing.image_error import UnusableImage
from fila.processing.image_input import ImageInputError
from fila.processing.image_source import split_frame

# Stride of a ConvNeXt's last stage: with one cell per patch, the high-res canvas is 32 / patch times the canvas.
HIGH_RES_STRIDE = 32
SIDEWAYS = (5, 6, 7, 8)


@dataclass(frozen=True)
class Eyes:
    """An image processor, the image tokens that one view becomes, and what to call the two."""

    image_processor: Any
    tokens_per_tile: int
    name: str


def open_eyes(
    checkpoint: str | None = None,
    *,
    canvas: Mapping[str, Any] | None = None,
    tile: int = 336,
    patch: int = 14,
    high_res: bool = True,
) -> Eyes:
    """Take the eyes of a checkpoint, or make some out of settings.

    Args:
        checkpoint: Folder or Hub id; when given, the settings are ignored.
        canvas: Option dict of the canvas strategy; FILA's by default.
        tile: Pixels of a tile.
        patch: Pixels of a patch; every patch becomes one image token.
        high_res: Whether there is a high-res canvas.

    Raises:
        ValueError: If the checkpoint or a setting is unusable.
    """
    if checkpoint is not None:
        check_checkpoint(checkpoint)
        processor = AutoProcessor.from_pretrained(checkpoint)
        if not hasattr(processor, "tokens_per_tile"):
            raise ValueError(f"{checkpoint!r} has a {type(processor).__name__}, not a FilaProcessor.")
        return Eyes(processor.image_processor, processor.tokens_per_tile, Path(checkpoint).name)
    if tile < 1 or patch < 1 or tile % patch:
        raise ValueError(f"The tile must be a positive multiple of the patch; got tile {tile} and patch {patch}.")
    side, options = tile // patch, dict(canvas or {"type": "fila"})
    image_processor = (FilaImageProcessor if is_torchvision_available() else FilaImageProcessorPil)(
        canvas=options,
        size={"height": tile, "width": tile},
        high_res_size={"height": side * HIGH_RES_STRIDE, "width": side * HIGH_RES_STRIDE} if high_res else None,
    )
    image_processor.plan(1, 1)  # an unknown canvas or option is refused here, before any image is opened
    return Eyes(image_processor, side * side, f"{options['type']} canvas, tile {tile}, patch {patch}")


def open_video_eyes(checkpoint: str | None = None, *, tile: int = 336) -> Any:
    """The video processor of a checkpoint, or one with the default settings.

    Raises:
        ValueError: If the checkpoint takes no videos.
    """
    if checkpoint is None:
        return FilaVideoProcessor(size={"height": tile, "width": tile})
    check_checkpoint(checkpoint)
    found = getattr(AutoProcessor.from_pretrained(checkpoint), "video_processor", None)
    if found is None:
        raise ValueError(f"{checkpoint!r} takes no videos: its processor has no video processor.")
    return found


def check_checkpoint(checkpoint: str) -> None:
    """Refuse what is neither a checkpoint folder nor a Hub id, before transformers looks for it.

    Raises:
        ValueError: Naming the checkpoint.
    """
    folder = Path(checkpoint).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ValueError(f"{checkpoint!r} has no config.json, so it is no checkpoint; `fila assemble` makes one.")
    elif folder.is_absolute() or checkpoint.startswith((".", "~")) or checkpoint.count("/") != 1:
        raise ValueError(f"Checkpoint {checkpoint!r} is neither a folder nor a Hub id of the form owner/name.")


def read_size(source: str, number: int = 0) -> Size:
    """Size of an image, upright, out of its file's header or of a text like `2200x1700` (height x width).

    Args:
        source: A path or a size.
        number: Index of the image, for errors.

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
        with path.open("rb") as file:
            prefix = file.read(16)
            if not prefix:
                raise UnusableImage("has no bytes", "Write or download the file again.")
            image = open_header(file, prefix)
            choose_frame(image, frame)
            # A PNG without EXIF data in front would be decoded whole to look for some behind.
            has_exif = image.format != "PNG" or "exif" in image.info
            sideways = has_exif and orientation(image) in SIDEWAYS
            width, height = image.size
            if isinstance(image, TiffImagePlugin.TiffImageFile):  # PIL turns the size of these, in newer versions
                width, height = image.tag_v2[TiffImagePlugin.IMAGEWIDTH], image.tag_v2[TiffImagePlugin.IMAGELENGTH]
            return Size(width, height) if sideways else Size(height, width)
    except UnusableImage as error:
        raise ImageInputError(None, number, f"({source}) {error.reason}", error.fix) from error
