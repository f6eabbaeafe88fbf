# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Pages of PDFs and TIFF files are images: their size, their pixels, and what is refused by name."""

import base64
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fila
from fila.processing import image_document
from fila.processing.canvas import CANVASES
from fila.processing.image_document import count_pages, default_page_size, open_page, page_names, read_pages
from fila.processing.image_input import ImageInputError, load_images
from fila.processing.image_size import read_size
from tests import cases
from tests.helpers import has_equal_views, random_image, tiny_canvas, tiny_canvas_processor, tiny_processor
from tests.processing.pdfs import LOCK, bar, pdf_bytes


@pytest.fixture
def pdf(tmp_path: Path) -> str:
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf_bytes([bar(0), bar(0.4), bar(0.8)]))
    return str(path)


def level(image: Image.Image) -> int:
    """Gray level of the upper half; the lower one is white."""
    pixels = np.asarray(image.convert("L"))
    assert pixels[-1].min() == 255
    return round(float(np.median(pixels[: len(pixels) // 2])))


def test_each_page_is_an_image(pdf: str, tmp_path: Path) -> None:
    assert count_pages(pdf) == 3
    assert [level(page) for page in fila.read_pages(pdf)] == [0, 102, 204]
    assert level(fila.open_page(f"{pdf}#page=2")) == 102
    assert level(load_images(f"{pdf}#frame=2")) == 204
    assert [level(page) for page in load_images([f"{pdf}#page=3", Path(f"{pdf}#page=1")])] == [204, 0]
    one = pdf_bytes([bar(0.2)])
    whole = "data:application/pdf;base64," + base64.b64encode(one).decode()
    for source in (one, io.BytesIO(one), base64.b64encode(one).decode(), whole):
        assert level(load_images(source)) == 51


def test_a_page_of_a_tiff_is_a_frame(tmp_path: Path) -> None:
    first, second = random_image(8, 9, seed=1), random_image(10, 7, seed=2)
    path = tmp_path / "a.tiff"
    first.save(path, save_all=True, append_images=[second])
    assert count_pages(path) == 2
    assert [page.size for page in read_pages(path)] == [(9, 8), (7, 10)]
    assert np.array_equal(load_images(f"{path}#page=2"), load_images(f"{path}#frame=1"))
    assert read_size(f"{path}#page=2") == (10, 7)
    first.save(path)
    assert [*page_names(path)] == [str(path)]


def test_a_page_is_drawn_at_the_size_that_the_canvas_shows(pdf: str) -> None:
    processor = tiny_processor()
    (page,) = read_pages(f"{pdf}#page=1", processor)
    canvas, high_res = processor.image_processor.size["height"], processor.image_processor.high_res_size["height"]
    largest = processor.image_processor.plan(20_000, 10_000).content_box.size
    assert page.size[::-1] == tuple(-(-side * high_res // canvas) for side in largest)
    assert read_size(f"{pdf}#page=1", page_size=processor.image_processor.page_size) == page.size[::-1]
    assert load_images(pdf + "#page=1").size[::-1] == default_page_size(200, 100)


CANVAS_CASES = [(name, size) for name in sorted(CANVASES) for size in ((842, 595), (595, 842), (100, 700), (3, 3))]


@cases.each("name, size", CANVAS_CASES)
def test_no_canvas_shows_more_of_a_page(name: str, size: tuple[int, int]) -> None:
    """A larger drawing gets no more tiles, and the drawing is not enlarged; nor is it much larger than needed."""
    canvas = tiny_canvas(name)
    processor = tiny_canvas_processor(canvas).image_processor
    wanted = processor.page_size(*size)
    plan, larger = processor.plan(*wanted), processor.plan(wanted.height * 3, wanted.width * 3)
    # slices of MiniCPM-V and LLaVA-UHD are chosen by area and shape, which rounding changes a little
    assert plan.num_tiles >= larger.num_tiles - (name in ("minicpm", "uhd"))
    enlarged = processor.high_res_size["height"] / processor.size["height"] if processor.high_res_size else 1
    assert enlarged == 1 or has_equal_views(canvas)
    for side, shown, most in zip(wanted, plan.content_box.size, larger.content_box.size, strict=True):
        # a side of the content is rounded to pixels, or to blocks of patches
        assert side >= 0.98 * (shown - 1) * enlarged - 1 or name in ("minicpm", "uhd")
        assert side <= max(shown, most) * enlarged * 1.75 + 2


def test_the_image_processor_draws_for_the_canvas_of_the_call(pdf: str) -> None:
    processor = tiny_processor().image_processor
    for settings in ({}, {"canvas": {"type": "single"}}, {"high_res_size": None}):
        found = processor([f"{pdf}#page=1"], return_tensors="pt", return_image_sizes=True, **settings)
        assert tuple(found["image_sizes"][0].tolist()) == page_pixels(pdf, processor, settings)


def page_pixels(pdf: str, processor: Any, settings: dict[str, Any]) -> tuple[int, int]:
    def rule(height: float, width: float) -> Any:
        return processor.page_size(height, width, **settings)

    return tuple(read_size(f"{pdf}#page=1", page_size=rule))


def test_a_cache_of_images_takes_pages(pdf: str) -> None:
    processor = tiny_processor().image_processor
    expected = processor([f"{pdf}#page=2"], return_tensors="np")["pixel_values"]
    processor.cache_images(10**7)
    for _ in range(2):
        assert np.array_equal(processor([f"{pdf}#page=2"], return_tensors="np")["pixel_values"], expected)
    assert not np.array_equal(processor([f"{pdf}#page=1"], return_tensors="np")["pixel_values"], expected)


def test_a_turned_page_and_a_filled_form_are_drawn_as_readers_show_them(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf_bytes([bar(0)], more="/Rotate 90"))
    page = open_page(path)
    assert page.size == (556, 278)
    assert np.asarray(page.convert("L"))[:, -1].max() == 0


WHOLE = pdf_bytes([bar(0), bar(1)])
BAD = {
    "locked": (pdf_bytes([bar(0)], trailer=LOCK), "", r"\(.*locked\.pdf\) is a PDF that is encrypted and needs"),
    "locked_page": (pdf_bytes([bar(0)], trailer=LOCK), "#page=1", r"locked_page\.pdf#page=1\) is a PDF that is enc"),
    "cut": (WHOLE[: len(WHOLE) // 2], "#page=1", r"\(.*cut\.pdf#page=1\) is a damaged PDF: its end is missing"),
    "noise": (b"%PDF-1.7\nhello\n%%EOF", "#page=1", r"noise\.pdf#page=1\) is a damaged PDF"),
    "none": (pdf_bytes([]), "", r"\(.*none\.pdf\) is a PDF of 0 pages"),
    "many": (WHOLE, "", r"\(.*many\.pdf\) is a PDF of 2 pages. Choose one: `#page=1`"),
    "beyond": (WHOLE, "#page=3", r"\(.*beyond\.pdf#page=3\) has no page 3; it has 2"),
    "zero": (WHOLE, "#page=0", r"\(.*zero\.pdf#page=0\) has no page 0; it has 2"),
    "lost": (WHOLE.replace(b"6 0 R]", b"9 0 R]"), "#page=2", r"lost\.pdf#page=2\) has (a|no) page 2"),
}


@cases.each("name", sorted(BAD))
def test_what_cannot_be_read_is_named_with_its_page(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    content, page, told = BAD[name]
    path = tmp_path_factory.mktemp("bad") / f"{name}.pdf"
    path.write_bytes(content)
    for read in (load_images, read_size):
        with pytest.raises(ImageInputError, match=told):
            read(f"{path}{page}")


def test_count_pages_names_what_cannot_be_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    for content, told in ((pdf_bytes([]), "0 pages"), (WHOLE[:100], "damaged"), (BAD["locked"][0], "encrypted")):
        path.write_bytes(content)
        with pytest.raises(ImageInputError, match=rf"\(.*a\.pdf\) is a .*{told}"):
            count_pages(path)
    with pytest.raises(ImageInputError, match=r"missing\.pdf\) does not exist"):
        count_pages(tmp_path / "missing.pdf")


def test_limits_bound_pages_and_pixels(pdf: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_document, "MAX_PAGES", 2)
    with pytest.raises(ImageInputError, match="is a PDF of 3 pages, and 2 can be read"):
        load_images(f"{pdf}#page=1")
    monkeypatch.undo()
    huge = load_images(f"{pdf}#page=1", page_size=lambda height, width: image_document.Size(10**7, 10**7))
    assert huge.height <= image_document.MAX_SIDE
    assert huge.height * huge.width <= (Image.MAX_IMAGE_PIXELS or 0) / 2 + huge.height
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    small = load_images(f"{pdf}#page=1")
    assert 400 < small.width * small.height <= 600
    assert read_size(f"{pdf}#page=1") == small.size[::-1]


def test_without_pypdfium2_the_file_is_named(pdf: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    with pytest.raises(ImageInputError, match=r"a\.pdf#page=1\) is a PDF, which needs pypdfium2. Install it"):
        load_images(f"{pdf}#page=1")


def test_processor_takes_pages_in_a_chat(pdf: str) -> None:
    processor = tiny_processor()
    one = processor(images=[f"{pdf}#page=2"], text="<image>?", return_tensors="pt")
    other = processor(images=[open_page(f"{pdf}#page=2", processor)], text="<image>?", return_tensors="pt")
    assert one["pixel_values"].equal(other["pixel_values"])
