# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pickle
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fila.training.data_rows import RowError, check_options, normalise
from tests.cases import each
from tests.helpers import random_image

IMAGE = {"type": "image"}
PICTURE = random_image(9, 41)


def said(*turns: str, roles: tuple[str, str] = ("human", "gpt")) -> list[dict[str, str]]:
    return [{"from": roles[number % 2], "value": turn} for number, turn in enumerate(turns)]


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def said_by(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def contents(sample: dict[str, Any]) -> list[Any]:
    return [message["content"] for message in sample["messages"]]


def asked(content: str, answer: str = "b", **more: Any) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": content}, {"role": "assistant", "content": answer}],
        **more,
    }


@each(
    "row, kind, match",
    [
        (
            {"messages": [said_by("user", "a"), said_by("assistant", "b", loss=False)]},
            "loss",
            "whose `loss` is not true",
        ),
        (
            {"prompt": "a", "chosen": [said_by("user", "b"), said_by("assistant", "c")]},
            "not a sample",
            "begins with the",
        ),
        (
            {"image": "/9j/" * 9999, "question": "a", "answer": "b"},
            "file missing",
            r"39996 characters .*'/9j/.{16}'\.\.\.; base64 must begin",
        ),
        ({"image": PICTURE, "conversations": said("<image><image>a", "b")}, "surplus tag", "2 <image> and 1 image"),
        ({"images": ["a", "b"], "conversations": said("<image>a", "b")}, "surplus image", "1 <image> and 2 images"),
        ({"image": "a.png", "conversations": said("a", "b")}, "surplus image", "0 <image> .* --missing-image"),
        ({"video": "a.mp4", "conversations": said("a", "b")}, "surplus video", "has 0 <video> and 1 video"),
        (
            {"image": PICTURE, "video": "a.mp4", "conversations": said("<image>a", "b")},
            "surplus video",
            "0 <video> and 1 video",
        ),
        ({"conversations": said("<image>a", "b")}, "tag without image", "has 1 <image> and no image"),
        ({"image": "", "conversations": said("<image>a", "b")}, "tag without image", "has 1 <image> and no image"),
        ({"image": [], "conversations": said("<image>a", "b")}, "tag without image", "has 1 <image> and no image"),
        ({"conversations": said("<video>a", "b")}, "tag without video", "has 1 <video> and no video"),
        ({"image": "gone.png", "conversations": said("<image>a", "b")}, "file missing", r"gone\.png, which is no"),
        ({"conversations": said("a", "b", roles=("gpt", "human"))}, "starts with the assistant", "starts with the"),
        ({"image": PICTURE, "conversations": said("a", "<image>")}, "image in an answer", "has <image> in an answer"),
        ({"conversations": said("a", " ")}, "empty answer", "has an empty answer"),
        ({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": None}]}, "empty answer", "an"),
        ({"conversations": said("a", "b", roles=("human", "observation"))}, "unknown role", "role 'observation'"),
        ({"conversations": said("a", "b", roles=("human", "human"))}, "roles do not alternate", "user after user"),
        ({"question": "a"}, "no answer", "has no answer to learn"),
        ({"question": "a", "answers": None}, "no answer", "has no answer to learn"),
        ({"question": "a", "answer": " "}, "no answer", "has no answer to learn"),
        ({"a": 1, "b": None}, "unknown columns", r"has unknown columns \['a'\]"),
        ({"conversations": said("a", "b"), "query": "a", "response": "b"}, "two kinds", "query/response"),
        ({"images": [PICTURE], "image": PICTURE, "question": "a", "answer": "b"}, "two kinds", "`image` and `images`"),
        (asked("a", "<bbox>"), "boxes", "has 1 <bbox> and 0 <ref-object> for 0 boxes and 0 names"),
        (asked("a", "<bbox>", objects={"bbox": [[1, 2, 3, 4]]}, image=PICTURE), "boxes", "--boxes norm1000"),
        (asked("a <audio>"), "audio", "has 1 <audio>"),
        (asked("a", audios=["a.wav"]), "audio", "has audio"),
        ({"images": [None], "conversations": said("<image>a", "b")}, "no file named", "as image 0; got None"),
        ({"images": [""], "conversations": said("<image>a", "b")}, "no file named", "as image 0; got ''"),
        ({"image": {"bytes": None, "path": None}, "question": "a", "answer": "b"}, "no file named", "as image 0"),
        ({"conversations": "a"}, "not a sample", "must have a list of turns as `conversations`; got 'a'"),
        ({"conversations": []}, "no question", "has no message of the user"),
        ({"question": "a", "answer": [["b"]]}, "not a sample", r"must have text as `answer`; got \['b'\]"),
        ({"texts": ["a"]}, "not a sample", "must have a list of pairs as `texts`"),
        ({"query": "a", "response": "b", "history": ["a"]}, "not a sample", "must have pairs as `history`; got 'a'"),
        ([], "not a sample", r"must be an object; got \[\]"),
        (
            {"messages": [{"role": "user", "content": [IMAGE]}, {"role": "assistant", "content": "b"}]},
            "messages",
            "has 1 parts and 0 images",
        ),
    ],
)  # fmt: skip
def test_rows_are_refused_by_name(row: dict[str, Any], kind: str, match: str) -> None:
    with pytest.raises(RowError, match=match) as caught:
        normalise(row, needs_answer=True)
    assert caught.value.kind == kind
    if isinstance(row, dict):
        with pytest.raises(RowError, match=r"A row \(id 7\): "):
            normalise({"question_id": 7, **row}, needs_answer=True)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@each(
    "row, expected",
    [
        ({"conversation": [{"human": "a", "assistant": "b"}] * 2}, ["a", "b", "a", "b"]),
        ({"instruction": "a", "input": "i", "output": "b"}, ["a\ni", "b"]),
        ({"instruction": "a", "input": "", "output": 4}, ["a", "4"]),
        ({"query": "a", "response": "b", "history": [["c", "d"]], "system": "s"}, ["s", "c", "d", "a", "b"]),
        ({"prompt": "a", "completion": "b"}, ["a", "b"]),
        ({"prompt": [{"role": "user", "content": "a"}], "chosen": "b", "rejected": "c"}, ["a", "b"]),
        (
            {
                "prompt": "a",
                "completion": [said_by("assistant", "b"), said_by("user", "c"), said_by("assistant", "d")],
            },
            [*"abcd"],
        ),
        (
            {"prompt": "a", "chosen": [said_by("system", "s"), said_by("user", "a"), said_by("assistant", "b")]},
            ["s", "a", "b"],
        ),
        ({"question": "a", "answer": 40.0, "query": None}, ["a", "40.0"]),
        ({"question": "a", "answers": [{"answer": "b"}, {"answer": "c"}]}, ["a", "b"]),
        ({"question": "a", "answers": {"text": ["b"], "answer_start": [0]}}, ["a", "b"]),
        ({"conversations": said("a", "b", roles=("user", "assistant"))}, ["a", "b"]),
        ({"conversations": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, ["a", "b"]),
        (asked("a", system="s"), ["s", "a", "b"]),
        (asked("a") | {"label": True, "prompt": "a"}, ["a", "b"]),  # a score, and the first message once more
    ],
)
def test_rows_of_text_are_read(row: dict[str, Any], expected: list[str]) -> None:
    sample = normalise(row)
    assert contents(sample) == [[text(words)] for words in expected]
    assert sample["images"] == []


@each("row", [
    {"image": PICTURE, "question": "a", "answer": "b"},
    {"image": PICTURE, "images": None, "texts": [{"user": "a", "assistant": "b", "source": "x"}]},
    {"images": [PICTURE], "prompt": "a", "completion": [{"role": "assistant", "content": "b"}]},
    {"images": [PICTURE], **asked("a")},  # TRL's: pictures in the row, not their paths
    {"image": PICTURE, "question": "<image>a", "answer": "b"},
])  # fmt: skip
def test_images_precede_the_first_question_where_rows_have_no_tags(row: dict[str, Any]) -> None:
    assert contents(normalise(row)) == [[IMAGE, text("a")], [text("b")]]


@each("prompt", [{}, {"prompt": "a"}, {"prompt": [said_by("user", "a")]}])
def test_preferences_may_be_whole_conversations(prompt: dict[str, Any]) -> None:
    answers = {name: [said_by("user", "a"), said_by("assistant", name)] for name in ("chosen", "rejected")}
    sample = normalise({"images": [PICTURE], **prompt, **answers})
    assert contents(sample) == [[IMAGE, text("a")], [text("chosen")]]
    assert sample["rejected"] == [{"role": "assistant", "content": [text("rejected")]}]


def test_images_of_a_conversation_precede_it_if_asked_for(tmp_path: Path) -> None:
    PICTURE.save(tmp_path / "ä b.png")
    row = {"image": "ä b.png", "conversations": said("a", "b")}
    sample = normalise(row, root=tmp_path, missing_image="first")
    assert contents(sample)[0] == [IMAGE, text("\na")]
    assert sample["images"] == [f"{tmp_path}/ä b.png"]
    assert contents(normalise(row, root=tmp_path, missing_image="first", newlines=(False, True)))[0] == [
        IMAGE,
        text("a"),
    ]


@each("newlines, expected", [
    ((False, False), [text("x\n\n"), IMAGE, text("\n\ny")]),
    ((True, False), [text("x\n"), IMAGE, text("\n\ny")]),
    ((False, True), [text("x\n\n"), IMAGE, text("\ny")]),
])  # fmt: skip
def test_one_newline_is_dropped_where_the_template_writes_it(newlines: Any, expected: list[Any]) -> None:
    row = {"image": PICTURE, "conversations": said("x\n\n<image>\n\ny", "b")}
    assert contents(normalise(row, newlines=newlines))[0] == expected


def test_a_leading_answer_may_be_skipped() -> None:
    turns = [{"from": "system", "value": "s"}, *said("hello", "a", "b", roles=("gpt", "human"))]
    assert contents(normalise({"conversations": turns}, leading_answer="skip")) == [
        [text("s")],
        [text("a")],
        [text("b")],
    ]


def test_columns_have_the_names_that_are_given() -> None:
    row = {"q": "a", "a": "b", "question": "not this", "answer": None, "caption": "c", "image": PICTURE}
    columns = {"question": "q", "answer": "a", "caption": ""}
    sample = normalise(row, columns=columns)
    assert contents(sample) == [[IMAGE, text("a")], [text("b")]]
    with pytest.raises(RowError, match=r"two kinds|is of two kinds: question/answer .* and image/caption"):
        normalise(row | {"answer": "b"})


def test_what_is_not_understood_is_kept_aside() -> None:
    row = {"id": 3, "question": "a", "answer": "b", "choices": ["b", "c"], "hint": None, "ocr_tokens": ["x"]}
    sample = normalise(row)
    assert sample["extra"] == {"choices": ["b", "c"], "ocr_tokens": ["x"]}
    assert (sample["id"], sample["answers"]) == (3, ["b"])


def test_a_sample_is_its_own_sample() -> None:
    once = normalise({"id": "x", "image": PICTURE, "question": "a", "answers": ["b", "c"], "more": 1})
    assert normalise(once) == once


@each(
    "image", ["https://example.com/a.png", "data:image/png;base64,AAAA", b"bytes", {"bytes": b"x", "path": "gone.png"}]
)
def test_sources_that_are_no_paths_stay(image: Any) -> None:
    assert normalise({"image": image, "question": "a", "answer": "b"})["images"] == [image]


def test_frames_and_absolute_paths_are_found(tmp_path: Path) -> None:
    frames = [random_image(9, 41, seed=number) for number in (1, 2)]
    frames[0].save(tmp_path / "a.tiff", save_all=True, append_images=frames[1:])
    Image.new("P", (5, 4)).save(tmp_path / "p.png")
    row = {"images": ["a.tiff#frame=1", str(tmp_path / "p.png"), {"bytes": None, "path": "p.png"}]}
    sample = normalise(row | {"question": "a", "answer": "b"}, root=tmp_path)
    assert sample["images"] == [f"{tmp_path}/a.tiff#frame=1", f"{tmp_path}/p.png", f"{tmp_path}/p.png"]


@each("bbox, more, boxes, written", [
    ([0.1, 0.2], {"bbox_type": "norm1"}, "norm1000", "[100, 200]"),
    ([0.1, 0.2, 0.5, 1], {"bbox_type": "norm1"}, "norm1", "[0.100, 0.200, 0.500, 1.000]"),
    ([0.1, 0.2, 0.5, 1], {"bbox_type": "norm1"}, "pixels", "[4, 2, 20, 9]"),
    ([41, 9], {"image_id": [0]}, "norm1000", "[1000, 1000]"),
    ([4.4, 2], {"bbox_type": None}, "pixels", "[4, 2]"),
])  # fmt: skip
def test_boxes_are_converted(bbox: list[float], more: dict[str, Any], boxes: str, written: str) -> None:
    row = asked("<image>a", "<bbox>", image=PICTURE, objects={"bbox": [bbox], "ref": [], **more})
    assert contents(normalise(row, boxes=boxes))[1] == [text(written)]


@each("objects, match", [
    ({"bbox": [[1, 2, 3]]}, "boxes of 2 or 4 numbers"),
    ({"bbox": [[1, 2, 300, 4]]}, "outside of its image"),
    ({"bbox": [[1, 2, 3, 4]], "image_id": [1]}, "in image 1 and 1 image"),
    ({"bbox": [[1, 2, 3, 4]] * 2}, "has 1 <bbox> and 0 <ref-object> for 2 boxes and 0 names"),
    ([1], "must have an object as `objects`"),
])  # fmt: skip
def test_boxes_that_fit_nowhere_are_refused(objects: Any, match: str) -> None:
    with pytest.raises(RowError, match=match):
        normalise(asked("<image>a", "<bbox>", image=PICTURE, objects=objects), boxes="norm1000")


@each("options, match", [
    ({"image_position": "last"}, r"`image_position` must be one of \['as_written', 'first'\]; got 'last'"),
    ({"missing_image": "x"}, "`missing_image` must be one of"),
    ({"leading_answer": "x"}, "`leading_answer` must be one of"),
    ({"boxes": "x"}, "`boxes` must be one of"),
    ({"columns": {"questions": "q"}}, r"must name columns among .*; got \['questions'\]"),
])  # fmt: skip
def test_unknown_options_are_refused(options: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        check_options(**options)
