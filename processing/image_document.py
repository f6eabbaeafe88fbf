# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Pages of documents: PDFs, drawn with pypdfium2, and TIFF files of several pages.

A page is an image wherever an image is read: `report.pdf#page=3` is the third page. A PDF has no pixels of its own, so
its page is drawn at the size that the canvas can show, which the image processor's `page_size` says; without a
processor at `PAGE_DPI` dots per inch. What is drawn is white paper with the page's content, its annotations and what
forms are filled in with.

Pdfium repairs what it can of a damaged file and draws the rest, so a file without its end mark is refused before that.
Pdfium is not made for threads; a lock lets one of them draw at a time. This file is not copied into checkpoints.
"""

import importlib
import io
import math
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from .canvas_plan import Size
from .image_decode import MAX_FRAME, check_size, open_header
from .image_error import ImageInputError, UnusableImage, with_name
from .image_input import load_images
from .image_settings import square
from .image_source import check_bytes, is_document, split_frame
from .image_whole import CUT

PageSize = Callable[[float, float], Size]  # from height and width of a page, in points, to pixels
PAGE_DPI = 200  # scanners' usual resolution of text
MAX_PAGES = 10_000  # of one PDF; its own count may be anything
MAX_SIDE = 16_384  # pixels
EPSILON = 1e-9  # what a product of floats may be above or below a whole number
# One of them ends a whole file; some writers leave the last out.
END_MARKS = (b"%%EOF", b"startxref", b"trailer")
END_BYTES, PADDING = 2048, 2**16  # where they are looked for, before what a file was filled up with
NEEDS = "is a PDF, which needs pypdfium2"
INSTALL = "Install it: `pip install pypdfium2`."
PASSWORD = "Save it without a password, for instance with `qpdf --decrypt`."
_LOCK = threading.Lock()


def default_page_size(height: float, width: float) -> Size:
    """Return the pixels of a page at `PAGE_DPI`.

    Example:
        >>> default_page_size(792, 612)
        Size(height=2200, width=1700)
    """
    return Size(math.ceil(height * PAGE_DPI / 72), math.ceil(width * PAGE_DPI / 72))


def canvas_page_size(image_processor: Any, height: float, width: float, **overrides: Any) -> Size:
    """Return the pixels at which a page is drawn: the most that an image processor's canvas can show of it.

    That is the page's part of the largest canvas that the strategy has for its shape, or of the high-res canvas where
    there is one; more, where the strategy chooses that canvas only for larger images.

    Args:
        image_processor: A `FilaImageProcessor`.
        height: Height of the page, in any unit.
        width: Its width, in the same unit.
        overrides: `canvas`, `size` or `high_res_size`, as in a call.
    """
    settings = {"size": image_processor.size, "high_res_size": image_processor.high_res_size, **overrides}
    tile = square(settings["size"] or image_processor.size, "size").height
    high_res = settings["high_res_size"]
    enlarged = 1.0 if high_res is None else max(1.0, square(high_res, "high_res_size").height / tile)
    plans = image_processor.plans(**overrides)

    def scaled(scale: float) -> Size:
        return Size(max(1, math.ceil(height * scale)), max(1, math.ceil(width * scale)))

    largest = plans(*scaled(MAX_SIDE / max(height, width)))
    least = largest.content_box.size
    for step in range(4):  # a strategy may choose that canvas only for images that it has to shrink
        page = Size(*(math.ceil(side * enlarged * 1.2**step) for side in least))
        if plans(*page).num_tiles >= largest.num_tiles:
            return page
    return Size(*(math.ceil(side * enlarged) for side in least))


def render_page(source: str | bytes, frame: int | None, page_size: PageSize | None = None) -> Image.Image:
    """Draw a page of a PDF as RGB.

    Args:
        source: A path, or the bytes of a PDF.
        frame: The page, from 0; None for the only page.
        page_size: See `PageSize`; `default_page_size` if None.

    Raises:
        UnusableImage: If the PDF cannot be opened, has no such page, or has several and none was chosen.
    """
    with _page(source, frame) as page:
        scale, size = _scale(page, page_size or default_page_size)
        try:
            bitmap = page.render(scale=scale, rev_byteorder=True, prefer_bgrx=False)
        except Exception as error:  # pdfium gives no reason, and pypdfium2 raises its own
            raise UnusableImage(f"has a page {(frame or 0) + 1} that cannot be drawn ({_told(error)})", CUT) from error
        picture: Image.Image = bitmap.to_pil().convert("RGB").copy()
        bitmap.close()
    assert picture.size == size[::-1]
    return picture


def page_pixels(source: str | bytes, frame: int | None, page_size: PageSize | None = None) -> Size:
    """Return the size that `render_page` gives, without drawing; arguments and errors as there."""
    with _page(source, frame) as page:
        return _scale(page, page_size or default_page_size)[1]


def count_pages(source: str | os.PathLike[str]) -> int:
    """Return the number of pages of a PDF or a TIFF file; 1 for a file of another kind, which is not opened.

    Raises:
        ImageInputError: If the file does not exist, or is a PDF or TIFF whose pages cannot be counted.

    Example:
        >>> count_pages("fila/assets/page.png")
        1
    """
    path = os.fspath(source)
    try:
        if not os.path.isfile(path):
            raise UnusableImage("does not exist", "Pass the path of a file.")
        with open(path, "rb") as file:
            prefix = file.read(1024)
            if is_document(prefix):
                with _document(path) as document:
                    return len(document)
            file.seek(0)
            if prefix[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
                return 1
            image: Any = open_header(file, prefix[:16])
            try:
                count = int(image.n_frames)
            except Exception as error:  # PIL goes through all directories of the file
                raise UnusableImage(f"is a TIFF whose pages cannot be counted ({error})", CUT) from error
            if count > MAX_FRAME + 1:
                raise UnusableImage(f"is a TIFF of {count} pages, and {MAX_FRAME + 1} can be read", "Split it.")
            return count
    except UnusableImage as error:
        raise ImageInputError(None, 0, with_name(error.reason, path), error.fix) from error
    except OSError as error:
        raise ImageInputError(None, 0, f"({path}) cannot be read ({error.strerror})", "Check it.") from error


def read_pages(source: str | os.PathLike[str], processor: Any = None) -> Iterator[Image.Image]:
    """Yield the pages of a PDF or TIFF file as images, one at a time; another image is its only page.

    Args:
        source: Path of the file; `report.pdf#page=3` is that page alone.
        processor: A `FilaProcessor`, or its image processor: pages of a PDF are drawn at the size that its canvas can
            show. If None, at `PAGE_DPI` dots per inch.

    Raises:
        ImageInputError: If the file or one of its pages cannot be used; names both.
    """
    for name in page_names(source):
        yield open_page(name, processor)


def open_page(source: str | os.PathLike[str], processor: Any = None) -> Image.Image:
    """Return one page of a file, such as `report.pdf#page=3`, as an image; arguments and errors as `read_pages`."""
    image: Image.Image = load_images(os.fspath(source), page_size=page_size_of(processor))
    return image


def page_size_of(processor: Any) -> PageSize | None:
    """Return the rule of a processor, or of its image processor; None where it has none."""
    found: PageSize | None = getattr(getattr(processor, "image_processor", processor), "page_size", None)
    return found


def page_names(source: str | os.PathLike[str]) -> Iterator[str]:
    """Yield the name of each page, such as `report.pdf#page=1`; a file of one page that is no PDF is its own name."""
    name = os.fspath(source)
    path, frame = split_frame(name)
    if frame is not None:
        yield name
        return
    count = count_pages(path)
    with open(path, "rb") as file:
        is_pdf = is_document(file.read(1024))
    if count == 1 and not is_pdf:
        yield name
        return
    for number in range(count):
        yield f"{name}#page={number + 1}"


@contextmanager
def _document(source: str | bytes) -> Iterator[Any]:
    """Open a PDF of at least one page."""
    try:
        pypdfium2: Any = importlib.import_module("pypdfium2")
    except ImportError as error:
        raise UnusableImage(NEEDS, INSTALL) from error
    _check_whole(source)
    with _LOCK:
        try:
            document = pypdfium2.PdfDocument(source)
        except pypdfium2.PdfiumError as error:
            if _has_no_pages(source):  # pdfium has no error for it, and tells the one before
                raise UnusableImage("is a PDF of 0 pages", "Write it again, with a page.") from error
            if getattr(error, "err_code", None) in (pypdfium2.raw.FPDF_ERR_PASSWORD, pypdfium2.raw.FPDF_ERR_SECURITY):
                raise UnusableImage("is a PDF that is encrypted and needs a password", PASSWORD) from error
            raise UnusableImage(f"is a damaged PDF ({_told(error)})", CUT) from error
        try:
            count = len(document)
            if count < 1:
                raise UnusableImage("is a PDF of 0 pages", "Write it again, with a page.")
            if count > MAX_PAGES:
                raise UnusableImage(f"is a PDF of {count} pages, and {MAX_PAGES} can be read", "Split it.")
            if document.get_formtype() != pypdfium2.raw.FORMTYPE_NONE:
                document.init_forms()
            yield document
        finally:
            document.close()


@contextmanager
def _page(source: str | bytes, frame: int | None) -> Iterator[Any]:
    with _document(source) as document:
        count, number = len(document), (frame or 0) + 1
        if frame is None and count > 1:
            raise UnusableImage(f"is a PDF of {count} pages", "Choose one: `#page=1` after the path is the first.")
        if not 1 <= number <= count:
            raise UnusableImage(f"has no page {number}; it has {count}", "Pages count from 1.")
        try:
            page = document[number - 1]
        except Exception as error:
            raise UnusableImage(f"has a page {number} that cannot be read ({_told(error)})", CUT) from error
        try:
            yield page
        finally:
            page.close()


def _has_no_pages(source: str | bytes) -> bool:
    """Return whether a small file says in plain text that it has a list of pages, and no page."""
    if isinstance(source, str):
        if Path(source).stat().st_size > 2**20:
            return False
        source = Path(source).read_bytes()
    return bool(re.search(rb"/Type\s*/Pages", source) and not re.search(rb"/Type\s*/(Page(?!s)|ObjStm)", source))


def _told(error: Exception) -> str:
    return str(error).rstrip(".")


def _scale(page: Any, page_size: PageSize) -> tuple[float, Size]:
    """Return pixels per point, and the size in pixels: that of the rule, inside of the limits."""
    width, height = page.get_size()
    if not (0 < width < math.inf and 0 < height < math.inf):
        raise UnusableImage(f"has a page of {height:g}x{width:g} points", "Pass a page with an area.")
    wanted = page_size(height, width)
    limit = math.inf if Image.MAX_IMAGE_PIXELS is None else Image.MAX_IMAGE_PIXELS / 2
    # The smallest scale at which neither side has fewer pixels; sides are rounded up, as pypdfium2 does it.
    least = max((wanted.height - 1) / height, (wanted.width - 1) / width, 1e-9 / height, 1e-9 / width)
    least = min(least, (MAX_SIDE - 1) / max(height, width), math.sqrt(limit / height / width)) * (1 + EPSILON)
    size = Size(math.ceil(height * least), math.ceil(width * least))
    check_size(size.width, size.height)
    return min(size.height / height, size.width / width) * (1 - EPSILON), size  # so that the page fills it


def _check_whole(source: str | bytes) -> None:
    """Check the size of the file, and its end: pdfium would draw what is there of one that was cut."""
    if isinstance(source, bytes):
        check_bytes(len(source))
        end = source[-PADDING:]
    else:
        check_bytes(Path(source).stat().st_size)
        with open(source, "rb") as file:
            file.seek(0, io.SEEK_END)
            file.seek(max(0, file.tell() - PADDING))
            end = file.read()
    end = end.rstrip(b"\0 \r\n")[-END_BYTES:]
    if not any(mark in end for mark in END_MARKS):
        raise UnusableImage("is a damaged PDF: its end is missing", CUT)
