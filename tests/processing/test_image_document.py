# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Pages of PDFs and TIFF files are images wherever an image is read."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pypdfium2
import pytest
from PIL import Image

from fila.processing.canvas_plan import Size
from fila.processing.image_document import count_pages, open_page, page_names, page_pixels, read_pages, render_page
from fila.processing.image_error import ImageInputError
from fila.processing.image_input import load_images
from fila.processing.image_size import read_size
from tests.cases import each
from tests.helpers import tiny_image_processor, tiny_processor

COLOURS = ((250, 40, 40), (40, 250, 40), (40, 40, 250))
SIZES = ((60, 90), (120, 50), (70, 70))  # (width, height) in points


def write_pdf(path: Path, sizes: Any = SIZES) -> Path:
    """Write a PDF with a page of each size, each of one colour."""
    document = pypdfium2.PdfDocument.new()
    for number, (width, height) in enumerate(sizes):
        page = document.new_page(width, height)
        image = pypdfium2.PdfImage.new(document)
        image.set_bitmap(pypdfium2.PdfBitmap.from_pil(Image.new("RGB", (4, 4), COLOURS[number % 3])))
        image.set_matrix(pypdfium2.PdfMatrix().scale(width, height))
        page.insert_obj(image)
        page.gen_content()
    document.save(str(path))
    document.close()
    return path


def write_tiff(path: Path) -> Path:
    pages = [Image.new("RGB", (30 + number, 20), colour) for number, colour in enumerate(COLOURS)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    return path


def colour(image: Image.Image) -> tuple[int, ...]:
    return tuple(np.asarray(image.convert("RGB"))[image.height // 2, image.width // 2].tolist())


def test_page_of_a_pdf_is_an_image(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "a.pdf")
    for number, (width, height) in enumerate(SIZES, 1):
        page = load_images(f"{path}#page={number}")
        assert colour(page) == COLOURS[number - 1]
        assert page.size == (-(-width * 200 // 72), -(-height * 200 // 72))  # at 200 dots per inch, rounded up
        assert read_size(f"{path}#page={number}") == page.size[::-1]


def test_helpers_go_through_the_pages(tmp_path: Path) -> None:
    pdf, tiff = write_pdf(tmp_path / "a.pdf"), write_tiff(tmp_path / "b.tif")
    for path in (pdf, tiff):
        assert count_pages(path) == 3
        assert [colour(page) for page in read_pages(path)] == [*COLOURS]
        assert [*page_names(path)] == [f"{path}#page={number}" for number in (1, 2, 3)]
        assert colour(open_page(f"{path}#page=2")) == COLOURS[1]
    Image.new("RGB", (5, 4)).save(tmp_path / "c.png")
    assert [*page_names(tmp_path / "c.png")] == [str(tmp_path / "c.png")]


def test_bytes_of_a_pdf_are_an_image(tmp_path: Path) -> None:
    content = write_pdf(tmp_path / "a.pdf", SIZES[:1]).read_bytes()
    assert colour(load_images(content)) == COLOURS[0]


def test_page_is_as_large_as_the_canvas_can_show(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "a.pdf", [(600, 850)])
    processor = tiny_image_processor()
    (page,) = read_pages(path, processor)
    plan, largest = processor.plan(page.height, page.width), processor.plan(8500, 6000)
    assert plan.tile_grid == largest.tile_grid
    scale = processor.high_res_size["height"] / processor.size["height"]
    assert page.height >= plan.content_box.size.height * scale
    # never larger than needed: no more than the share by which a strategy may want an image enlarged, and a pixel
    assert page.height <= (plan.content_box.size.height * scale + 1) * 1.2
    direct = processor(images=[page], return_tensors="np")
    named = processor(images=[str(path)], return_tensors="np")
    assert all(np.array_equal(direct[name], named[name]) for name in direct)


def test_processor_takes_pages_in_a_chat(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "a.pdf")
    processor = tiny_processor()
    one = processor(images=[f"{path}#page=2"], text="<image>?", return_tensors="pt")
    other = processor(images=[open_page(f"{path}#page=2", processor)], text="<image>?", return_tensors="pt")
    assert one["pixel_values"].equal(other["pixel_values"])


def damaged(path: Path) -> None:
    path.write_bytes(write_pdf(path).read_bytes()[:-200])


def nonsense(path: Path) -> None:
    path.write_bytes(b"%PDF-1.7\nnothing\n%%EOF\n")


def encrypted(path: Path) -> None:
    # an encryption dictionary whose password nobody has: the standard handler with made-up digests
    body = (
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
        b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>endobj\n"
        b"4 0 obj<</Filter/Standard/V 1/R 2/P -4/O<" + b"41" * 32 + b">/U<" + b"42" * 32 + b">>>endobj\n"
    )
    trailer = b"trailer<</Size 5/Root 1 0 R/Encrypt 4 0 R/ID[<00><00>]>>\nstartxref\n0\n%%EOF\n"
    path.write_bytes(body + trailer)


def empty(path: Path) -> None:
    document = pypdfium2.PdfDocument.new()
    document.save(str(path))
    document.close()


@each(
    ("make", "named", "message"),
    [
        (damaged, "a.pdf", r"a\.pdf\) is a damaged PDF: its end is missing"),
        (nonsense, "a.pdf", r"a\.pdf\) is a damaged PDF"),
        (encrypted, "a.pdf", r"a\.pdf\) is a PDF that is encrypted and needs a password"),
        (empty, "a.pdf", r"a\.pdf\) is a PDF of 0 pages"),
        (write_pdf, "a.pdf", r"is a PDF of 3 pages. Choose one: `#page=1`"),
        (write_pdf, "a.pdf#page=4", r"has no page 4; it has 3"),
        (write_pdf, "a.pdf#page=0", r"has no page 0"),
        (write_pdf, "missing.pdf#page=1", r"missing\.pdf"),
    ],
)
def test_what_cannot_be_read_is_named(make: Any, named: str, message: str, tmp_path: Path) -> None:
    make(tmp_path / "a.pdf")
    with pytest.raises(ImageInputError, match=message):
        load_images([str(tmp_path / named)])


def test_tiff_without_a_choice_asks_for_one(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "b.tif")
    with pytest.raises(ImageInputError, match="several frames"):
        load_images(str(path))


def test_size_of_a_page_is_bounded(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "wide.pdf", [(14400, 10)])
    size = page_pixels(str(path), None)
    assert max(size) <= 16_384
    assert render_page(str(path), None).size == size[::-1]
    size = page_pixels(str(path), None, lambda height, width: Size(10**9, 10**9))
    assert max(size) <= 16_384
    assert size.height * size.width <= (Image.MAX_IMAGE_PIXELS or 0)


def test_pages_are_drawn_on_white(tmp_path: Path) -> None:
    document = pypdfium2.PdfDocument.new()
    document.new_page(30, 30)
    content = io.BytesIO()
    document.save(content)
    document.close()
    assert colour(load_images(content.getvalue())) == (255, 255, 255)
