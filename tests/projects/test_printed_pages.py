# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Pages of the second edition: the same for a seed, values inside their boxes, no font and no character too many."""

import json
from pathlib import Path
from random import Random

import pytest

from fila.processing.processing_fila import FilaProcessor
from fila.training.page_fonts import DEFAULT_FACES
from projects.default_model import printed_fonts as fonts
from projects.default_model import printed_pages as pages
from projects.default_model import printed_values as values
from projects.default_model import second_edition

PROJECT = Path(fonts.__file__).parent


@pytest.fixture(scope="module")
def image_processor():
    """The first edition's, whose geometry the second has."""
    return FilaProcessor.from_pretrained(second_edition.FIRST_EDITION).image_processor


def test_a_page_is_the_same_for_a_seed(image_processor):
    make = pages.make_printed_sample
    first, again, other = (make(seed, image_processor, DEFAULT_FACES) for seed in (3, 3, 4))
    assert first["fields"] == again["fields"]
    assert first["messages"] == again["messages"]
    assert first["images"][0].tobytes() == again["images"][0].tobytes()
    assert first["fields"] != other["fields"]


@pytest.mark.parametrize("scan", ["clean", "scan", "worse", "photo"])
@pytest.mark.parametrize("layout", ["inline", "stacked", "header_table", "bordered", "cards", "letter", "scattered"])
def test_characters_of_a_value_lie_inside_its_box(layout, scan):
    page = pages.make_printed_page(5, DEFAULT_FACES, layout=layout, scan=scan)
    assert page.fields
    for each in page.fields:
        left, top, right, bottom = each.box
        assert min(left, top) >= -8
        assert max(right - page.image.width, bottom - page.image.height) <= 8
        inside = [g.character for g in page.glyphs if left - 1 <= g.x <= right + 1 and top - 1 <= g.y <= bottom + 1]
        missing = set(each.value.replace(" ", "")) - set(inside)
        assert not missing, (each, missing)


def test_boxes_of_values_do_not_overlap():
    for seed in range(12):
        page = pages.make_printed_page(seed, DEFAULT_FACES, scan="clean")
        boxes = [each.box for each in page.fields]
        for number, (left, top, right, bottom) in enumerate(boxes):
            for other in boxes[:number]:
                apart = right <= other[0] or other[2] <= left or bottom <= other[1] + 0.01 or other[3] <= top + 0.01
                assert apart, (seed, page.layout, boxes[number], other)


def test_values_have_at_most_28_characters_that_the_tokenizer_knows():
    rng = Random(0)
    known = {*map(chr, range(32, 127)), *map(chr, range(0xA1, 0x100)), "€"}
    for kind in values.KINDS:
        for _ in range(60):
            _, text = values.make_value(rng, kind=kind)
            assert 1 <= len(text) <= 28, (kind, text)
            assert set(text) <= known, (kind, text)
            label = values.make_label(rng)
            assert 2 <= len(label) <= 22, label
            assert set(label) <= known, label


def test_what_is_absent_is_not_on_the_page(image_processor):
    refused = []
    for seed in range(30):
        sample = pages.make_printed_sample(seed, image_processor, DEFAULT_FACES, first_edition=0)
        refused += [f for f in sample["fields"] if f["answer"] == pages.ABSENT]
        assert all(len(f["answer"]) <= 28 for f in sample["fields"])
    assert refused
    assert all(each["kind"] == "absent" for each in refused)


def test_no_family_of_the_test_pages_is_drawn():
    training = json.loads((PROJECT / "printed_fonts.json").read_text(encoding="utf-8"))
    assert not {fonts.first_word(name) for name in training} & fonts.HELD_OUT
    listed = PROJECT / "test_fonts.txt"
    if listed.is_file():
        names = [
            line.split()[0] for line in listed.read_text(encoding="utf-8").splitlines() if line.startswith("fontpkg")
        ]
        assert names
        assert {fonts.first_word(name) for name in names} <= fonts.HELD_OUT
