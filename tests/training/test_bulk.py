# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Bulk answers: one line per question, resumed after any end, whatever some rows hold."""

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fila.training.answering import Answerer
from fila.training.bulk import BulkAsker, Line, ask_all, read_shard
from fila.training.data import open_data, questions
from fila.training.evaluation import answer_questions
from tests.helpers import random_image, tiny_model, tiny_processor
from tests.training.samples import make_samples, write_json_lines

FIELDS = [{"question": "Who?", "answer": "a"}, {"question": "Where to?"}]
ROWS: list[dict[str, Any]] = [
    *make_samples(3),
    {"id": "given", "images": [random_image(90, 91)], "messages": make_samples(1)[0]["messages"]},
    {"id": 7, "images": [random_image(20, 50)], "fields": FIELDS, "messages": []},
    {"messages": [{"role": "user", "content": "Hm?"}]},
]


def asker(rows: list[dict[str, Any]] = ROWS, batch_size: int = 2) -> BulkAsker:
    return BulkAsker(Answerer(tiny_model().eval(), tiny_processor(), 5), rows, "my.jsonl", batch_size=batch_size)


def read(path: Path) -> list[Line]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_lines_hold_the_answers_of_evaluation(tmp_path: Path) -> None:
    counts = ask_all(asker(), tmp_path / "new" / "answers.jsonl")
    lines = {line["id"]: line for line in read(tmp_path / "new" / "answers.jsonl")}
    ids = ["my.jsonl:0:0", "my.jsonl:1:0", "my.jsonl:2:0", "given", "7:0", "7:1", "my.jsonl:5:0"]
    assert sorted(lines) == sorted(ids)
    assert (counts.answered, counts.failed, counts.found) == (7, 0, 0)
    asked = questions(ROWS, unanswered=True)
    expected = list(answer_questions(tiny_model(), tiny_processor(), asked, batch_size=1, max_new_tokens=5))
    assert [(lines[i]["question"], lines[i]["answer"]) for i in ids] == [(e.question, e.prediction) for e in expected]
    assert {line["tokens"] for line in lines.values()} <= {1, 2, 3, 4, 5}


def test_a_run_goes_on_from_every_byte_at_which_it_was_killed(tmp_path: Path) -> None:
    path, one = tmp_path / "answers.jsonl", asker()
    ask_all(one, path)
    whole = path.read_bytes()
    ends = [number for number, byte in enumerate(whole) if byte == ord("\n")]
    for end in (0, 3, 30, ends[0], ends[0] + 1, ends[2] + 5, len(whole) - 1, len(whole)):
        path.write_bytes(whole[:end])
        ask_all(one, path)
        assert path.read_bytes() == whole, end


def test_the_actor_of_the_ray_example_answers_as_one_run(tmp_path: Path) -> None:
    """Without Ray, which `make ray-check` has: the actor gets numbers of rows in arrays."""
    one = asker()
    for part in (one.answer.model, one.answer.processor):
        part.save_pretrained(tmp_path / "checkpoint")
    data = write_json_lines(tmp_path / "data", make_samples(4))
    one = BulkAsker(one.answer, open_data(data), data.name, batch_size=2)
    ask_all(one, tmp_path / "one")
    example = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "ray_ask.py"))
    done = frozenset({"data.jsonl:3:0"})
    actor = example["Asker"](str(tmp_path / "checkpoint"), str(data), done, batch_size=2, max_new_tokens=5)
    found = [line for rows in ([0, 2], [1, 3]) for line in actor({"id": np.array(rows)})["line"]]
    assert sorted(found) == sorted((tmp_path / "one").read_text().splitlines())[:3]


def test_shards_together_are_one_run(tmp_path: Path) -> None:
    ask_all(asker(), tmp_path / "one")
    for index in range(2):
        ask_all(asker(), tmp_path / f"part{index}", shard=(index, 2))
    parts = [line for index in range(2) for line in read(tmp_path / f"part{index}")]
    assert sorted(parts, key=lambda line: line["id"]) == sorted(read(tmp_path / "one"), key=lambda line: line["id"])


def test_errors_are_lines(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"dear sirs")
    samples = make_samples(2)
    bad = [
        {**samples[0], "images": [str(tmp_path / "broken.png")]},
        {"id": "none", "messages": [{"role": "user", "content": [{"type": "image"}]}], "images": []},
        {"images": [], "messages": [{"role": "system", "content": "Hm."}]},
    ]
    counts = ask_all(asker([*bad, *samples], batch_size=8), tmp_path / "answers.jsonl")
    assert (counts.answered, counts.failed) == (2, 3)
    errors = {line["id"]: line["error"] for line in read(tmp_path / "answers.jsonl") if "error" in line}
    assert "broken.png" in errors["my.jsonl:0:0"]
    assert "it has 1 parts and 0 images" in errors["none"]
    assert "Row 2 of my.jsonl asks nothing" in errors["my.jsonl:2"]
    good = [line["answer"] for line in read(tmp_path / "answers.jsonl") if "error" not in line]
    ask_all(asker(samples), tmp_path / "good")
    assert good == [line["answer"] for line in read(tmp_path / "good")]


def test_questions_of_one_resolution_share_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = make_samples(1)[0]["messages"]
    sizes = [(20, 50), (90, 91)] * 4
    one = asker([{"images": [random_image(*size)], "messages": message} for size in sizes], batch_size=4)
    batches: list[set[Any]] = []
    answer = one.answer.__call__
    monkeypatch.setattr(
        one, "answer", type("Spy", (), {
            "processor": one.answer.processor,
            "__call__": lambda self, asked: batches.append({q.images[0].size for q in asked}) or answer(asked),
        })(),
    )  # fmt: skip
    ask_all(one, tmp_path / "answers.jsonl")
    assert batches == [{(50, 20)}, {(91, 90)}]


@pytest.mark.parametrize("content", ["notes\n", '{"a": 1}\n', "[]\n", "torn notes", '{"id": "a"}\nnotes'])
def test_a_file_of_something_else_is_left_alone(content: str, tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"Line [12] of .* is no answer of an earlier run"):
        ask_all(asker(), path)
    assert path.read_text() == content


def test_ids_that_come_twice_are_refused(tmp_path: Path) -> None:
    rows = [{**sample, "id": "same"} for sample in make_samples(2)]
    with pytest.raises(ValueError, match=r"Two questions of my\.jsonl have the id 'same'.*--columns id="):
        ask_all(asker(rows), tmp_path / "answers.jsonl")


@pytest.mark.parametrize("text", ["1", "2/2", "-1/2", "a/b", "1/0"])
def test_shards_are_counted_from_0(text: str) -> None:
    with pytest.raises(ValueError, match="counted from 0"):
        read_shard(text)
