# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fila.training.data import open_data, questions
from fila.training.page_files import read_glyphs, write_pages
from fila.training.page_fonts import DEFAULT_FACES
from fila.training.pages import make_sample
from projects.default_model.model import make_processor


def test_pages_are_samples_that_open(tmp_path: Path) -> None:
    image_processor = make_processor().image_processor
    path = write_pages(tmp_path / "a", "test", 3, image_processor, faces=DEFAULT_FACES, first_seed=7, read=2)
    data = open_data(str(path))
    assert len(data) == 3
    made = make_sample(8, "test", image_processor, read=2)
    assert data[1]["messages"] == made["messages"]
    assert data[1]["messages"][0]["content"][1]["text"] == "Read the first 2 fields."
    assert data[1]["fields"] == json.loads(json.dumps(made["fields"]))
    (name,) = data[1]["images"]
    difference = np.asarray(Image.open(name), dtype=int) - np.asarray(made["images"][0], dtype=int)
    assert abs(difference).mean() < 3  # JPEG
    glyphs = read_glyphs(data[1])
    assert [glyph.character for glyph in glyphs] == [glyph.character for glyph in made["glyphs"]]
    assert max(abs(a.y - b.y) + abs(a.x - b.x) for a, b in zip(glyphs, made["glyphs"], strict=True)) <= 0.11
    assert len(list(questions([data[1]]))) == len(made["fields"])


def test_pages_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    image_processor = make_processor().image_processor
    one, two = (
        write_pages(tmp_path / str(n), "train", 4, image_processor, faces=DEFAULT_FACES, dense=True, workers=n)
        for n in (1, 2)
    )
    assert one.read_text() == two.read_text()
    for image in sorted((one.parent / "images").iterdir()):
        assert image.read_bytes() == (two.parent / "images" / image.name).read_bytes()
    assert all(not json.loads(line)["fields"] for line in one.read_text().splitlines())


def test_pages_are_not_written_over(tmp_path: Path) -> None:
    image_processor = make_processor().image_processor
    path = write_pages(tmp_path, "train", 1, image_processor, faces=DEFAULT_FACES)
    with pytest.raises(ValueError, match=r"pages\.jsonl exists\. Pass another folder, or remove it\."):
        write_pages(path.parent, "train", 1, image_processor, faces=DEFAULT_FACES)


def test_a_split_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be one of \['test', 'train', 'varied'\]; got 'dev'"):
        write_pages(tmp_path / "pages", "dev", 1, None, faces=DEFAULT_FACES)
    assert not (tmp_path / "pages").exists()
