# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Read encoded bytes from a path, an address, a data URI, base64 text, bytes or a file object.

A path or an address may end in `#frame=3`, the frame (counted from 0) of an animated or multi-page file, or in
`#page=4`, the same counted from 1: a page of a TIFF file or of a PDF, see `image_document.py`.
"""

import base64
import binascii
import os
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, cast

from .image_error import UnusableImage
from .processor_needs_fila import NeedsFilaError, from_fila

MAX_FILE_BYTES = 512 * 2**20
FRAME = re.compile(r"#(frame|page)=(\d{1,9})$")
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
PIECE = 16 * 2**20  # bytes that are read of a stream at once
SHOWN = 120  # characters of a source in a message
# Bytes that every image has but a PPM: a shorter text that could be base64 is the name of a file that is missing.
LEAST_BYTES = 24


def is_encoded(source: object) -> bool:
    """Return whether `read_source` accepts a source."""
    return isinstance(source, str | os.PathLike | bytes | bytearray | memoryview) or callable(
        getattr(source, "read", None)
    )


def shown(source: object) -> str | None:
    """Return the name of a source in messages, or None if it has no short name."""
    if isinstance(source, os.PathLike):
        return os.fsdecode(source)
    return source if isinstance(source, str) and _is_path(source) else None


def kind_of(source: object) -> str:
    """Describe a source of an unknown kind, for the error."""
    if source is None:
        return "is None"
    return "is a nested tensor" if getattr(source, "is_nested", False) else f"is of type {type(source).__name__}"


def is_address(source: str) -> bool:
    """Return whether a source is an http or https address."""
    return source[:8].lower().startswith(("http://", "https://"))


def download(url: str, hosts: Sequence[str] | None = None) -> bytes:
    """Fetch the body of an address, see `image_download.py`, which is not copied into checkpoints.

    Raises:
        UnusableImage: If it cannot be fetched, or the `fila` package is not installed.
    """
    try:
        body: bytes = from_fila("processing.image_download", "An image that is an address").download(url, hosts)
    except NeedsFilaError as error:
        raise UnusableImage("is an address, which needs the `fila` package", "Install it, or pass a file.") from error
    return body


def split_frame(source: object) -> tuple[Any, int | None]:
    """Split `a.gif#frame=3`, or `a.pdf#page=4`, into path and frame; anything else has no frame."""
    name = os.fsdecode(source) if isinstance(source, str | os.PathLike) else ""
    if (match := FRAME.search(name)) and not os.path.exists(name):
        return name[: match.start()], int(match[2]) - (match[1] == "page")
    return source, None


def is_document(prefix: bytes) -> bool:
    """Return whether a file that begins so is a PDF."""
    return prefix.lstrip(b"\xef\xbb\xbf\0 \t\r\n").startswith(b"%PDF-")


def document_path(source: object) -> str | None:
    """Return the path of a PDF, which is not read as a whole; None for any other source."""
    path = split_frame(source)[0]
    if not isinstance(path, str | os.PathLike) or len(os.fsdecode(path)) > 4096 or not os.path.isfile(path):
        return None
    try:
        with open(path, "rb") as file:
            return os.fsdecode(path) if is_document(file.read(1024)) else None
    except OSError:  # whoever reads it says so
        return None


def document_module() -> ModuleType:
    """Return `image_document`, which draws the pages of PDFs and is not copied into checkpoints.

    Raises:
        UnusableImage: If the `fila` package is not installed.
    """
    try:
        return from_fila("processing.image_document", "A page of a PDF")
    except NeedsFilaError as error:
        raise UnusableImage("is a PDF, which needs the `fila` package", "Install it, or pass an image.") from error


def read_source(source: object, hosts: Sequence[str] | None = None) -> tuple[bytes, int | None]:
    """Read encoded bytes.

    Args:
        source: What `is_encoded` accepts.
        hosts: Hosts that addresses may name, see `image_download.py`.

    Returns:
        The bytes, at most `MAX_FILE_BYTES`, and the frame that a path or an address asks for.

    Raises:
        UnusableImage: If there are no bytes, or too many, or the source may not be read.
    """
    source, frame = split_frame(source)
    if isinstance(source, os.PathLike):
        data = _of_text(Path(os.fsdecode(source)), hosts)
    elif isinstance(source, str):
        data = _of_text(source, hosts)
    elif isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
    else:
        data = read_file_object(source, MAX_FILE_BYTES + 1)
    if not data:
        raise UnusableImage("has no bytes", "Write or download the file again.")
    check_bytes(len(data))
    return data, frame


def check_bytes(count: int) -> None:
    """Reject more bytes than a file may have."""
    if count > MAX_FILE_BYTES:
        raise UnusableImage(f"has more than {MAX_FILE_BYTES} bytes", "Encode it smaller, or decode it yourself.")


def _is_path(source: str) -> bool:
    return len(source) <= 1024 and os.path.isfile(FRAME.sub("", source))


def _of_text(source: str | Path, hosts: Sequence[str] | None) -> bytes:
    text = str(source)
    name = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
    if isinstance(source, str) and is_address(text):
        return download(text, hosts)
    if isinstance(source, str) and text[:5].lower() == "data:":
        head, _, body = text.partition(",")
        head = head.lower()
        data = _base64(body) if head.endswith(";base64") else None
        if not head.startswith(("data:image/", "data:application/pdf")) or data is None:
            raise UnusableImage(f"{name!r} is no data URI of an image", "It must be 'data:image/...;base64,...'.")
        return data
    if os.path.isdir(source):
        raise UnusableImage(f"{name!r} is a directory", "Pass the path of a file.")
    if os.path.isfile(source):
        try:
            with open(source, "rb") as file:
                return file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise UnusableImage(f"{name!r} cannot be read ({error.strerror})", "Check its permissions.") from error
    if os.path.exists(source):
        raise UnusableImage(f"{name!r} is no regular file", "Pass the path of a file; pipes and devices are not read.")
    if isinstance(source, str) and SCHEME.match(text):
        raise UnusableImage(f"{name!r} is no http or https address", "Pass the path of a file.")
    decoded = _base64(text) if isinstance(source, str) else None
    if decoded and (len(decoded) >= LEAST_BYTES or decoded.startswith(b"P")):
        return decoded
    raise UnusableImage(f"{name!r} does not exist", "Pass an existing file, a URL, a data URI or base64 text.")


def read_file_object(source: object, most: int) -> bytes:
    """Read an open file from its beginning to its end, or up to so many bytes; it stays open.

    Raises:
        UnusableImage: If it cannot be read, or gives anything but bytes.
    """
    pieces, size, file = [], 0, cast(BinaryIO, source)
    try:
        if callable(getattr(file, "seekable", None)) and file.seekable():
            file.seek(0)  # who opened it may have read it; an object with `read` alone is read on
        while size < most:
            piece: object = file.read(min(most - size, PIECE))  # may give less than that
            if not isinstance(piece, bytes | bytearray | memoryview):
                reason = f"is a file that gives {type(piece).__name__}, not bytes"
                raise UnusableImage(reason, "Open it in binary mode.")
            if not piece:
                break
            pieces.append(bytes(piece))
            size += len(piece)
    except UnusableImage:
        raise
    except Exception as error:  # files of libraries raise what they like
        raise UnusableImage(f"is a file that cannot be read ({error})", "Open it again.") from error
    return b"".join(pieces)


def _base64(text: str) -> bytes | None:
    """Decode base64 text, also in the URL alphabet, which often lacks padding; return None for other text."""
    check_bytes(len(text) // 4 * 3 - 2)  # what it has at least, but for line breaks, which are few
    text = "".join(text.split())
    if {"-", "_"} & {*text} and not {"+", "/"} & {*text}:
        text = text.translate({ord("-"): "+", ord("_"): "/"}) + "=" * (-len(text) % 4)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
