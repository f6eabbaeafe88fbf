# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import json
import random
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw

from projects.default_model import test_layouts as layouts
from projects.default_model import test_pages as pages
from projects.default_model import test_values as values

FONT = Path(matplotlib.__file__).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
FACES = [layouts.Face("DejaVuSans", FONT.read_bytes())]
SIDE = 256


def sheet_of(layout: layouts.Layout, seed: int) -> layouts.Sheet:
    sheet, rng = layouts.Sheet(SIDE, SIDE, 3, FACES[0], 9.0), random.Random(seed)
    layout(sheet, rng, pages._Pairs(rng, pages.Subset(("english",)), sheet))
    return sheet


def likeness(sheet: layouts.Sheet, box: layouts.Box, text: str) -> float:
    """Highest correlation of a text with what stands in a box, wherever in the box the text is put."""
    font = FACES[0].font(sheet.cap_height * sheet.scale)
    left, top, right, bottom = (int(edge) for edge in font.getbbox(text, anchor="ls"))
    size = right - left, bottom - top
    drawn = Image.new("L", size, 255)
    ImageDraw.Draw(drawn).text((-left, -top), text, fill=0, font=font, anchor="ls")
    found = sheet.image.convert("L").crop(tuple(sheet.scale * edge for edge in box))
    best = 0.0
    for y in range(max(1, found.height - size[1] + 1)):
        for x in range(max(1, found.width - size[0] + 1)):
            piece = np.asarray(found.crop((x, y, x + size[0], y + size[1])), float)
            best = max(best, float(np.corrcoef(piece.reshape(-1), np.asarray(drawn, float).reshape(-1))[0, 1]))
    return best


@pytest.mark.parametrize("layout", [*layouts.INLINE, *layouts.OTHERS, layouts.stamp], ids=lambda each: each.__name__)
def test_answer_stands_in_its_box(layout: layouts.Layout) -> None:
    sheet = sheet_of(layout, 3)
    asked = [each for each in sheet.shown if each.label]
    alike = [likeness(sheet, each.box, each.answer) for each in asked]
    others = [likeness(sheet, each.box, each.answer[::-1] + "x") for each in asked]
    assert len(asked) >= 2
    assert min(alike) > 0.95
    assert max(others) < 0.9


@pytest.mark.parametrize("layout", [*layouts.INLINE, *layouts.OTHERS, layouts.stamp], ids=lambda each: each.__name__)
def test_texts_of_a_sheet_do_not_overlap(layout: layouts.Layout) -> None:
    taken = sheet_of(layout, 4).taken
    assert not [(a, b) for at, a in enumerate(taken) for b in taken[:at] if pages._overlap(a, b)]


def test_value_above_stands_above_its_label() -> None:
    sheet = sheet_of(layouts.value_above, 5)
    places = dict(zip(sheet.texts, sheet.taken, strict=True))
    assert all(each.box[3] <= places[each.label][1] for each in sheet.shown)


@pytest.mark.parametrize("subset", pages.SUBSETS)
def test_fields_of_a_page(subset: str) -> None:
    for seed in range(3):
        image, fields = pages.make_page(subset, str(seed), FACES)
        assert image.size == (SIDE, SIDE)
        assert len({each["question"] for each in fields}) == len(fields) >= 1
        for each in fields:
            assert 0 < len(each["answer"]) <= values.LONGEST
            if each["box"] is None:
                assert each["answer"] == pages.ABSENT
                continue
            left, top, right, bottom = each["box"]
            assert 0 <= left < right <= SIDE
            assert 0 <= top < bottom <= SIDE
            assert each["cap_height"] == 0 or 7.9 <= each["cap_height"] <= 14
            assert np.asarray(image.convert("L").crop((left, top, right, bottom))).std() > 1


def test_page_is_the_same_for_the_same_seed() -> None:
    first, again, other = (pages.make_page("photographed", seed, FACES) for seed in ("1", "1", "2"))
    assert first[1] == again[1] != other[1]
    assert first[0].tobytes() == again[0].tobytes()


def test_every_kind_of_value_is_drawn_and_short() -> None:
    rng, found = random.Random(0), set()
    for language in (*values.LANGUAGES, "made-up"):
        for _ in range(300):
            text, kind = values.value(rng, values.PRINTED, language)
            found.add(kind)
            assert 0 < len(text) <= values.LONGEST
            assert all(" " <= sign <= "~" or "\xa1" <= sign <= "\xff" or sign == "€" for sign in text), text
    assert found == {each.__name__ for each in values.PRINTED}


def test_codes_hold_every_character() -> None:
    rng = random.Random(0)
    assert set("".join(values.code(rng, "english") for _ in range(300))) == set(values.UPPER + values.DIGITS)
    assert len(set("".join(values.any_characters(rng, "english") for _ in range(300)))) == 94


def test_label_that_is_absent_is_no_part_of_the_page() -> None:
    asked = [each for seed in range(8) for each in pages.make_page("absent", str(seed), FACES)[1]]
    shares = sum(each["answer"] == pages.ABSENT for each in asked) / len(asked)
    assert 0.2 < shares < 0.8
    for _ in range(50):
        label = pages._new_label(random.Random(1), "english", ["Total:", "Date of birth"])
        assert "total" not in label.lower()


def test_questions_about_things() -> None:
    kinds = {each["kind"] for seed in range(8) for each in pages.make_page("things", str(seed), FACES)[1]}
    assert {"colour", "shape", "place", "ticked label", "ticked"} <= kinds


def test_line_is_asked_for_by_words_that_no_other_begins_with() -> None:
    texts = ["one two three", "one four", "six, seven", "eight"]
    assert layouts.line_question("one two three", texts) == "Read the line that begins with one two."
    assert layouts.line_question("one four", texts) == ""
    assert layouts.line_question("six, seven", texts) == ""
    assert layouts.line_question("eight", texts) == ""


def test_moved_box_holds_what_was_drawn_in_the_box() -> None:
    box = (60, 90, 120, 110)
    sheet = Image.new("L", (3 * SIDE, 3 * SIDE), 255)
    sheet.paste(0, tuple(3 * edge for edge in box))
    corners = [(0.0, 0.0), (256.0, 0.0), (256.0, 256.0), (0.0, 256.0)]
    matrix = pages.homography(corners, [(9.0, 3.0), (250.0, 12.0), (246.0, 251.0), (4.0, 240.0)])
    moved = np.asarray(pages.moved_image(sheet, matrix, (SIDE, SIDE), 3))
    left, top, right, bottom = pages.moved_box(box, matrix, (SIDE, SIDE))
    rows, columns = np.nonzero(moved[20:230, 20:230] < 128)
    found = columns.min() + 20, rows.min() + 20, columns.max() + 21, rows.max() + 21
    assert np.abs(np.subtract(found, (left, top, right, bottom))).max() <= 1


def pdf_of(texts: list[str]) -> bytes:
    """Return a PDF file of one page with these lines in 12 point Helvetica."""
    shown = "".join(f"1 0 0 1 40 {760 - 18 * at} Tm ({text}) Tj " for at, text in enumerate(texts))
    content = f"BT /F 12 Tf {shown}ET"
    font = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        f"/Resources << /Font << /F {font} >> >> >>",
        f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
    ]
    file = "%PDF-1.4\n" + "".join(f"{at} 0 obj\n{each}\nendobj\n" for at, each in enumerate(objects, 1))
    return (file + "trailer << /Root 1 0 R /Size 5 >>\n%%EOF\n").encode()


def test_piece_of_a_pdf(tmp_path: Path) -> None:
    texts = [f"{name} Line of words that is cut somewhere after some of them" for name in "ABCDEFGH"]
    file = tmp_path / "a.pdf"
    file.write_bytes(pdf_of(texts))
    image, fields = pages.make_pdf_page([str(file)], "1")
    assert len(fields) >= 2
    for each in fields:
        assert any(text.startswith(each["answer"]) for text in texts)
        assert 10 < len(each["answer"]) <= values.LONGEST
        assert each["question"] == f"Read the line that begins with {each['answer'][0]}."
        left, top, right, bottom = each["box"]
        ink = np.asarray(image.convert("L")) < 128
        assert ink[top:bottom, left:right].any()
        assert not ink[top:bottom, right + 1 :].any()


def test_pdf_without_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.pdf"
    file.write_bytes(pdf_of([]))
    with pytest.raises(ValueError, match=r"Found no piece of text with two lines in .*a\.pdf\. Pass other"):
        pages.make_pdf_page([str(file)], "1")


def test_written_pages_are_interleaved_and_not_overwritten(tmp_path: Path) -> None:
    options = {"faces": FACES, "subsets": ("english", "things"), "questions": 2}
    rows = [json.loads(line) for line in pages.write_pages(tmp_path, 2, 7, **options).read_text("utf-8").splitlines()]
    assert [row["subset"] for row in rows] == ["english", "things"] * 2
    assert all((tmp_path / row["images"][0]).is_file() and 1 <= len(row["fields"]) <= 2 for row in rows)
    with pytest.raises(ValueError, match=r"pages\.jsonl exists\. Pass another folder, or remove it\."):
        pages.write_pages(tmp_path, 2, 7, **options)


def test_fonts_are_twelve_and_named_once() -> None:
    rows = [each.split() for each in pages.FONTS.read_text("utf-8").splitlines() if not each.startswith("#")]
    assert len({file for _, _, file, _ in rows}) == len(rows) == 12
