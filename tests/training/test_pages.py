# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import json
from importlib.resources import files
from random import Random

import numpy as np
import pytest
from PIL import Image

from fila.processing.image_processing_fila import FilaImageProcessorPil
from fila.training import page_text, pages
from fila.training.page_fonts import DEFAULT_FACES, obtain_faces
from fila.training.page_sheet import Sheet
from fila.training.page_text import make_label, make_value
from fila.training.pages import LAYOUTS, Layout, dense_text, make_page, make_sample

SIZES = {"size": {"height": 112, "width": 112}, "high_res_size": {"height": 256, "width": 256}}
RATIO = 256 / 112


@pytest.fixture(scope="module")
def image_processor() -> FilaImageProcessorPil:
    return FilaImageProcessorPil(**SIZES)


def test_page_is_a_function_of_its_seed(image_processor: FilaImageProcessorPil) -> None:
    first, again, other = (make_page(seed, "train", image_processor) for seed in (3, 3, 4))
    assert first.fields == again.fields
    assert np.array_equal(first.image, again.image)
    assert first.fields != other.fields


def test_splits_share_no_words_layouts_or_font_families() -> None:
    for name, lists in page_text._LISTS.items():
        assert not set(lists["train"]) & set(lists["test"]), name
    assert not {*LAYOUTS["train"], *LAYOUTS["varied"]} & set(LAYOUTS["test"])
    fonts = json.loads(files("fila.training").joinpath("page_fonts.json").read_text(encoding="utf-8"))
    families = [family for split in fonts.values() for family in split]
    assert list(fonts) == ["train", "test", "control"]
    assert len(set(families)) == len(families)
    assert all(len(pin["sha256"]) == 64 for split in fonts.values() for pin in split.values())


@pytest.mark.parametrize("split", list(LAYOUTS))
def test_labels_and_values_of_many_seeds(split: str) -> None:
    rng = Random(0)
    values = [make_value(rng, split) for _ in range(2000)]
    labels = [make_label(rng, split) for _ in range(2000)]
    assert all(3 <= len(value) <= 15 and value.isascii() and value == value.strip() for value in values)
    assert all(label.isascii() and label == label.strip() for label in labels)
    assert len(set(values)) > 1900  # nothing can be guessed


@pytest.mark.parametrize("split", list(LAYOUTS))
def test_labels_of_a_page_differ(split: str, image_processor: FilaImageProcessorPil) -> None:
    for seed in range(6):
        labels = [field.label.lower() for field in make_page(seed, split, image_processor).fields]
        assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("layout", dict.fromkeys(sum(LAYOUTS.values(), ())), ids=lambda layout: layout.__name__)
def test_every_layout_writes_what_it_lists(
    layout: object, image_processor: FilaImageProcessorPil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LAYOUTS, "train", (layout,))
    page = next(page for seed in range(9) if (page := make_page(seed, "train", image_processor)).fields)
    written = "".join(glyph.character for glyph in page.glyphs)
    for field in page.fields:
        assert field.value in written
        assert field.label.replace(" ", "") in written


def test_cap_height_is_measured_in_pixels_of_page_and_canvases(image_processor: FilaImageProcessorPil) -> None:
    page = make_page(5, "train", image_processor, cap_heights=(9.0, 9.0), clean=True)
    plan = image_processor.plan(page.image.height, page.image.width)
    scale = plan.content_box.size.height / page.image.height
    field = page.fields[0]
    assert field.tile_cap_height == pytest.approx(field.cap_height * scale)
    assert field.high_res_cap_height == pytest.approx(field.tile_cap_height * RATIO)
    assert field.high_res_cap_height == pytest.approx(9.0, abs=1 * scale * RATIO)  # fonts are drawn in whole pixels


@pytest.mark.parametrize("clean", [True, False])
def test_glyphs_lie_where_the_ink_is(clean: bool, image_processor: FilaImageProcessorPil) -> None:
    # also after rotation: around a glyph there is more contrast than on the page at large
    for seed in range(4):
        page = make_page(seed, "train", image_processor, clean=clean, cap_heights=(16.0, 16.0))
        grey = np.asarray(page.image.convert("L"), dtype=np.float32)
        around = []
        for character, y, x in page.glyphs:
            if character.isupper() or character.isdigit():
                box = grey[max(int(y) - 8, 0) : int(y) + 9, max(int(x) - 8, 0) : int(x) + 9]
                around.append(np.ptp(box))
        assert np.mean(np.array(around) > 0.4 * np.ptp(grey)) > 0.9


@pytest.mark.parametrize("squeeze", [1.0, 0.7])
def test_sheet_widens_strokes_and_narrows_words(squeeze: float) -> None:
    font = DEFAULT_FACES[0].at_cap_height(40)

    def ink(**options: float) -> tuple[np.ndarray, float, Sheet]:
        sheet = Sheet(Image.new("RGB", (400, 100), "white"), (0, 0, 0), (255, 255, 255), **options)
        end = sheet.write(10, 60, "HILT", font, cap=40)
        return 255 - np.asarray(sheet.image.convert("L"), dtype=np.float64), end, sheet

    plain, end, sheet = ink(squeeze=squeeze)
    heavy, heavy_end, heavy_sheet = ink(squeeze=squeeze, stroke=2.0)
    assert heavy.sum() > 1.4 * plain.sum()
    assert heavy_end == end == pytest.approx(10 + squeeze * font.getlength("HILT"))
    assert heavy_sheet.glyphs == sheet.glyphs
    centres = [np.average(np.arange(400), weights=each.sum(axis=0)) for each in (plain, heavy)]
    assert centres[0] == pytest.approx(centres[1], abs=1)  # it grows on both sides
    assert np.nonzero(plain.sum(axis=0))[0].max() < end + 1


def test_dense_text_has_many_more_characters(image_processor: FilaImageProcessorPil) -> None:
    def count(layout: Layout | None) -> int:
        options = {"cap_heights": (9.0, 9.0), "layout": layout}
        return sum(len(make_page(seed, "train", image_processor, **options).glyphs) for seed in range(6))

    assert count(dense_text) > 2 * count(None)


def test_sample_asks_about_fields_of_the_page(image_processor: FilaImageProcessorPil) -> None:
    sample = make_sample(7, "train", image_processor, num_questions=3)
    (image,) = sample["images"]
    assert image.mode == "RGB"
    assert [message["role"] for message in sample["messages"]] == ["user", "assistant"] * 3
    images = [part for message in sample["messages"] for part in message["content"] if part["type"] == "image"]
    assert len(images) == 1
    assert sample["messages"][0]["content"][0] == {"type": "image"}
    for field, question, answer in zip(
        sample["fields"], sample["messages"][::2], sample["messages"][1::2], strict=True
    ):
        assert question["content"][-1]["text"] == field["question"]
        assert answer["content"] == [{"type": "text", "text": field["answer"]}]
        assert field["high_res_cap_height"] > field["tile_cap_height"]


def test_sample_of_an_empty_page_takes_another_page(
    image_processor: FilaImageProcessorPil, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = []

    def page_of(seed: int, *arguments: object, **options: object) -> pages.Page:
        seeds.append(seed)
        page = make_page(seed, *arguments, **options)  # type: ignore[arg-type]
        return page if len(seeds) > 1 else pages.Page(page.image, (), (), "none", "none")

    monkeypatch.setattr(pages, "make_page", page_of)
    assert make_sample(1, "train", image_processor)["fields"]
    assert seeds == [1, 1 + 10**9]


def test_obtain_faces_rejects_an_unknown_split(tmp_path: object) -> None:
    with pytest.raises(ValueError, match=r"split must be one of \['control', 'test', 'train'\]; got 'validation'"):
        obtain_faces(str(tmp_path), "validation")


def test_face_is_drawn_at_a_cap_height() -> None:
    for pixels in (8, 17, 40):
        _, top, _, bottom = DEFAULT_FACES[0].at_cap_height(pixels).getbbox("H", anchor="ls")
        assert bottom - top == pytest.approx(pixels, abs=1)
