# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import json
from pathlib import Path

import numpy as np
import pytest

from fila.training.page_files import write_pages
from fila.training.page_fonts import DEFAULT_FACES
from fila.training.page_pdf import make_crop, read_words
from projects.default_model.model import make_processor

LINES = ["HARBOUR Seven crates", "of quince left", "at noon today"]


def write_pdf(path: Path, lines: list[str], *, size: int = 12) -> Path:
    """A PDF of one page with lines of Helvetica, 20 points apart, from the top left."""
    text = " ".join(f"BT /F {size} Tf 20 {180 - 20 * row} Td ({line}) Tj ET" for row, line in enumerate(lines))
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>",
        f"<</Length {len(text)}>>stream\n{text}\nendstream",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    body = "%PDF-1.4\n" + "".join(f"{n} 0 obj{each}endobj\n" for n, each in enumerate(objects, 1))
    path.write_bytes((body + "trailer<</Root 1 0 R>>").encode())
    return path


def test_words_stand_where_the_text_layer_says(tmp_path: Path) -> None:
    import pypdfium2

    with pypdfium2.PdfDocument(write_pdf(tmp_path / "a.pdf", LINES)) as document:
        words, cap = read_words(document[0])
    assert [word.text for word in words] == " ".join(LINES).split()
    assert [word.line for word in words] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert cap == pytest.approx(12 * 0.72, abs=0.3)  # Helvetica's capitals
    left, top, right, bottom = words[0].box
    assert (left, bottom) == (pytest.approx(20, abs=1.5), pytest.approx(20, abs=0.5))
    assert bottom - top == pytest.approx(cap, abs=0.5)
    assert right < words[1].box[0]


def test_crop_asks_for_words_that_follow_and_knows_their_size(tmp_path: Path) -> None:
    image_processor = make_processor().image_processor
    path = write_pdf(tmp_path / "a.pdf", LINES)
    after = {a: b for line in LINES for a, b in zip(line.split(), line.split()[1:], strict=False)}
    for seed in range(4):
        sample = make_crop([path], seed, image_processor, cap_heights=(11.0, 11.0))
        (image,) = sample["images"]
        assert max(image.size) <= 257
        for field in sample["fields"]:
            word = field["question"].split("'")[1]
            assert field["answer"] == after[word]
            assert field["high_res_cap_height"] == pytest.approx(11.0, rel=0.02)
            assert field["tile_cap_height"] == pytest.approx(11.0 / 4, rel=0.02)
        assert len(sample["messages"]) == 2 * len(sample["fields"])
        dark = np.asarray(image.convert("L")) < 128
        near = [
            dark[max(0, int(g.y) - 4) : int(g.y) + 5, max(0, int(g.x) - 4) : int(g.x) + 5] for g in sample["glyphs"]
        ]
        inner = [box.any() for box in near if box.shape == (9, 9)]
        assert inner
        assert np.mean(inner) > 0.95


def test_crop_of_a_page_without_words_is_refused(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "blank.pdf", [])
    with pytest.raises(
        ValueError, match=r"None of a hundred random pages of \['.*blank\.pdf'\] has words to ask about"
    ):
        make_crop([path], 0, make_processor().image_processor)


def test_crop_for_a_model_without_a_high_res_tower(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "a.pdf", LINES)
    assert make_crop([path], 0, make_processor("none").image_processor)["fields"]


def test_crop_of_what_is_no_pdf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_text("hello")
    with pytest.raises(ValueError, match=r"a\.pdf must be a PDF that opens without a password"):
        make_crop([path], 0, make_processor().image_processor)


def test_crops_are_written_as_pages(tmp_path: Path) -> None:
    pdf = write_pdf(tmp_path / "a.pdf", LINES)
    image_processor = make_processor().image_processor
    for count in (6, 1):
        path = write_pages(
            tmp_path / str(count), "test", 2, image_processor, faces=DEFAULT_FACES, pdfs=[pdf], num_questions=count
        )
        asked = [len(json.loads(line)["fields"]) for line in path.read_text().splitlines()]
        assert len(asked) == 2
        assert (max(asked) == 1) == (count == 1)
