# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import json
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from fila.processing.image_input import load_images
from fila.training.data import open_data, questions, sample_sizes
from fila.training.data_rows import image_size
from fila.training.pages import LAYOUTS
from projects.default_model.model import make_processor
from tests.helpers import random_image, tiny_processor
from tests.training.samples import SIZES, conversation, make_samples, text, write_json_lines


def test_json_lines_open_beside_their_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_json_lines(tmp_path / "set", make_samples(3))
    monkeypatch.chdir(tmp_path)
    data = open_data("set/data.jsonl")
    assert len(data) == 3
    assert data[1]["messages"] == make_samples(3)[1]["messages"]
    assert [Path(image) for image in data[2]["images"]] == [path.relative_to(tmp_path).parent / "2_0.png"]
    assert list(sample_sizes(data)) == [[size] for size in SIZES[:3]]


def test_a_line_may_name_a_frame(tmp_path: Path) -> None:
    frames = [random_image(9, 41, seed=number) for number in (1, 2)]
    frames[0].save(tmp_path / "a.tiff", save_all=True, append_images=frames[1:])
    for number, frame in enumerate(frames):
        line = {"images": [f"a.tiff#frame={number}"], "messages": conversation([frame], "Which?", "a")["messages"]}
        (tmp_path / "data.jsonl").write_text(json.dumps(line))
        data = open_data(str(tmp_path / "data.jsonl"))
        assert list(sample_sizes(data)) == [[(9, 41)]]
        assert np.array_equal(load_images(data[0]["images"])[0], frame)


def line(kind: str, **columns: Any) -> str:
    """A line with one part of a kind."""
    return json.dumps({"messages": [{"role": "user", "content": [{"type": kind}]}], **columns})


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("{", r"data\.jsonl row 2: is not JSON: "),
        ('{"images": []}', r"row 2: has unknown columns \['images'\]"),
        ("[]", r"row 2: must be an object; got \[\]"),
        (
            line("image", images=["gone.png"]),
            r"data\.jsonl row 2: names .*gone\.png, which is no file",
        ),
        (
            line("image", images=["gone.gif#frame=1"]),
            r"row 2: names .*gone\.gif#frame=1, which is no file",
        ),
        (line("image", images="gone.png"), r"row 2: names .*gone\.png, which is no file"),
        (line("image", image=["gone.png"]), r"row 2: names .*gone\.png, which is no file"),
        (line("image", image=5), r"row 2: must have a path, bytes or a picture as image 0; got 5"),
        (line("image", images=["a.png", None]), r"row 2: must have a path, .* as image 1; got None"),
        ('{"messages": []}', r"row 2: must have a list of messages as `messages`"),
        (line("image"), r"row 2: .* must have one .* it has 1 parts and 0 images"),
        (line("image", image="gone.png"), r"data\.jsonl row 2: names .*gone\.png, which is no file"),
        ('{"messages": [{"role": "user", "content": 5}]}', r"row 2: must have text as content of each message; got 5"),
        (
            line("video", videos=["gone.mp4"]),
            r"row 2: names .*gone\.mp4, which is no file",
        ),
    ],
)
def test_a_wrong_line_is_named(line: str, match: str, tmp_path: Path) -> None:
    path = write_json_lines(tmp_path, make_samples(1))
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ValueError, match=match):
        open_data(str(path))


def test_images_of_parts_lie_beside_the_file_and_have_a_size(tmp_path: Path) -> None:
    random_image(9, 41).save(tmp_path / "a.png")
    parts = [{"type": "image_url", "image_url": {"url": "a.png"}}, {"type": "image", "path": "a.png"}]
    line = {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": "a"}]}
    (tmp_path / "data.jsonl").write_text(json.dumps(line))
    data = open_data(str(tmp_path / "data.jsonl"))
    assert data[0]["images"] == [f"{tmp_path}/a.png"] * 2
    assert list(sample_sizes(data)) == [[(9, 41)] * 2]
    assert [asked.images for asked in questions(data)] == [data[0]["images"]]


def test_addresses_stay_addresses(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text(line("image", image="https://example.com/a.png"))
    assert open_data(str(tmp_path / "data.jsonl"))[0]["images"] == ["https://example.com/a.png"]


def test_one_image_in_a_column_of_its_own_is_bound(tmp_path: Path) -> None:
    sample = conversation([random_image(9, 41)], "Which?", "a")
    data = datasets.Dataset.from_list([{"image": sample["images"][0], "messages": sample["messages"], "more": 1}])
    assert list(sample_sizes(data)) == [[(9, 41)]]
    (asked,) = questions(data)
    assert len(asked.images) == 1


def test_a_question_does_not_lose_an_image() -> None:
    sample = conversation([random_image(9, 41)], "Which?", "a")
    sample["messages"][0]["content"] = "Which?"
    with pytest.raises(ValueError, match=r"Sample 1 .* it has 0 parts and 1 images"):
        list(questions([conversation([], "Which?", "a"), sample]))


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    def denied(*args: Any, **kwargs: Any) -> Any:
        raise error

    path = write_json_lines(tmp_path, make_samples(1))
    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(ValueError, match=rf"data.jsonl cannot be read: {error.strerror}"):
        open_data(str(path))


def test_a_file_of_other_bytes_is_named(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ValueError, match=r"data.jsonl row 1: cannot be read as text in UTF-8: 'utf-8' codec"):
        open_data(str(tmp_path / "data.jsonl"))


def test_a_file_without_samples_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="must hold one sample per line or row; it holds none"):
        open_data(str(tmp_path / "data.jsonl"))


def test_folders_of_datasets_open(tmp_path: Path) -> None:
    data = datasets.Dataset.from_list(make_samples(3)).cast_column("images", datasets.List(datasets.Image()))
    data.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(tmp_path / "splits")
    opened = open_data(str(tmp_path / "one"))
    assert list(sample_sizes(opened)) == [[size] for size in SIZES[:3]]
    with pytest.raises(ValueError, match=r"holds the splits \['test', 'train'\]; name one of them: .*#test"):
        open_data(str(tmp_path / "splits"))
    with pytest.raises(ValueError, match="was not written by `save_to_disk` of `datasets`"):
        open_data(str(tmp_path))


def test_pages_are_made_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def make_page_sample(seed: int, split: str, image_processor: Any) -> dict[str, Any]:
        return conversation([], f"{split} {seed}", type(image_processor).__name__)

    module = types.SimpleNamespace(LAYOUTS=LAYOUTS, make_sample=make_page_sample)
    monkeypatch.setitem(sys.modules, "fila.training.pages", module)
    data = open_data("pages:test:5", tiny_processor())
    assert len(data) == 5
    assert data[3]["messages"][0]["content"] == [text("test 3")]
    with pytest.raises(IndexError):
        data[5]
    assert len(open_data("pages:train")) == 1_000_000
    for spec in ("pages:", "pages:dev", "pages:test:many"):
        with pytest.raises(
            ValueError, match=f"are `pages:train`, `pages:test`, `pages:varied`, then `:COUNT`; got '{spec}'"
        ):
            open_data(spec)


def test_generated_pages_go_to_workers_that_are_spawned() -> None:
    data = open_data("pages:test:5", make_processor())
    assert pickle.loads(pickle.dumps(data))[3]["messages"] == data[3]["messages"]


def test_what_is_no_data_is_refused() -> None:
    with pytest.raises(ValueError, match=r"or one of \['pages'\] and a colon; 'nowhere' is none"):
        open_data("nowhere")


def test_sizes_of_everything_that_can_be_an_image(tmp_path: Path) -> None:
    image = random_image(9, 41)
    path = tmp_path / "a.png"
    image.save(path)
    exif = random_image(9, 41).getexif()
    exif[0x0112] = 6  # lies on its side
    image.save(tmp_path / "turned.jpg", exif=exif)
    stored = {"bytes": path.read_bytes(), "path": "elsewhere.png"}
    for source in (
        image,
        np.asarray(image),
        path,
        str(path),
        path.read_bytes(),
        stored,
        {"bytes": None, "path": path},
    ):
        assert image_size(source) == (9, 41)
    assert image_size(tmp_path / "turned.jpg") == (41, 9)


def test_questions_hold_all_right_answers_and_may_lack_one() -> None:
    sample = {**conversation([random_image(9, 41)], "What?", "a"), "answers": ["a", "A"]}
    (asked,) = questions([sample])
    assert (asked.answer, asked.references) == ("a", ["a", "A"])
    field = {"question": "What?", "answers": ["b", "B"]}
    (asked,) = questions([{**sample, "fields": [field]}])
    assert (asked.answer, asked.references) == ("b", ["b", "B"])
    only = {"messages": [{"role": "user", "content": "Hm?"}]}
    assert list(questions([only])) == []
    (asked,) = questions([only], unanswered=True)
    assert (asked.text, asked.answer) == ("Hm?", "")


def test_an_empty_column_beside_the_messages_is_no_answer() -> None:
    (asked,) = questions([{**make_samples(1)[0], "answer": ""}])
    assert asked.references == [asked.answer] != [""]


def test_questions_are_the_fields_or_the_assistants_messages() -> None:
    sample = conversation([random_image(9, 41)], "First?", "one")
    sample["messages"] += [
        {"role": "user", "content": [text("Second, "), {"type": "image"}, text("?")]},
        {"role": "assistant", "content": "two"},
    ]
    sample["images"].append(random_image(20, 23))
    first, second = questions([sample])
    assert (first.answer, first.text, first.field, len(first.images)) == ("one", "First?", None, 1)
    assert (second.answer, second.text, len(second.images)) == ("two", "Second, ?", 2)
    assert second.messages == sample["messages"][:3]
    field = {"question": "Total?", "answer": "7", "tile_cap_height": 3.5}
    (asked,) = questions([{**sample, "fields": [field]}])
    assert (asked.answer, asked.text, asked.field, asked.images) == ("7", "Total?", field, sample["images"])
    assert [part["type"] for part in asked.messages[0]["content"]] == ["image", "image", "text"]
    assert json.dumps(asked.messages)
    for field in ({"question": "Total?", "answer": 7.5}, {"answer": "7"}):
        with pytest.raises(
            ValueError, match="A field of sample 0 must have `question` and `answer`, both text, or `answers`"
        ):
            next(questions([{**sample, "fields": [field]}]))


def test_questions_have_the_videos_before_them() -> None:
    video, own = {"type": "video", "path": None}, {"type": "video", "path": "c.mp4"}
    turns = [[video, text("First?")], [own, text("Second?")], [video, text("Third?")]]
    messages = [
        message for content in turns for message in (
            {"role": "user", "content": content}, {"role": "assistant", "content": "Yes."},
        )
    ]  # fmt: skip
    sample = {"messages": messages, "videos": ["a.mp4", "b.mp4"]}
    found = [["a.mp4"], ["a.mp4", "c.mp4"], ["a.mp4", "c.mp4", "b.mp4"]]
    assert [asked.videos for asked in questions([sample])] == found
    (asked,) = questions([{**sample, "fields": [{"question": "Who?", "answer": "A bunny."}]}])
    assert [part["type"] for part in asked.messages[0]["content"]] == ["video", "video", "video", "text"]
    assert asked.videos == found[2]
