# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fila.training.data import Question, questions
from fila.training.evaluation import (
    Answered,
    answer_questions,
    as_json,
    by_number,
    by_tiles,
    default_buckets,
    edit_distance,
    score,
    score_buckets,
    small_print,
    wilson_interval,
)
from tests.helpers import random_image, tiny_model, tiny_processor
from tests.training.samples import make_samples


def slow_distance(first: str, second: str) -> int:
    """Straight from the definition."""

    @cache
    def distance(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        if first[i - 1] == second[j - 1]:
            return distance(i - 1, j - 1)
        return 1 + min(distance(i - 1, j), distance(i, j - 1), distance(i - 1, j - 1))

    return distance(len(first), len(second))


@given(st.text("ab 1", max_size=9), st.text("ab 1", max_size=9))
def test_edit_distance_is_the_slow_ones(first: str, second: str) -> None:
    assert edit_distance(first, second) == slow_distance(first, second)


@pytest.mark.parametrize("count", [1, 7, 100, 1000])
def test_wilson_interval_solves_its_equation(count: int) -> None:
    """Its ends are the shares from which the observed one is 1.96 standard deviations away."""
    for successes in {0, 1, count // 3, count}:
        for end in wilson_interval(successes, count):
            assert 0 <= end <= 1
            if 1e-9 < end < 1 - 1e-9:
                deviations = abs(successes / count - end) / math.sqrt(end * (1 - end) / count)
                assert deviations == pytest.approx(1.959964, rel=1e-6)
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(0, count)[0] == pytest.approx(0)
    assert wilson_interval(count, count)[1] == pytest.approx(1)


def answered(reference: str, prediction: str, **buckets: str) -> Answered:
    return Answered("?", reference, prediction, buckets)


def test_scores() -> None:
    found = score([answered("12.50", "12.50"), answered("a  b", "a b"), answered("abc", "xbcd"), answered("no", "")])
    assert (found.count, found.exact_match) == (4, 0.5)
    assert found.character_error_rate == (0 + 1 + 2 + 2) / 14
    assert (found.low, found.high) == wilson_interval(2, 4)
    nothing = score([])
    assert (nothing.count, nothing.exact_match, nothing.low, nothing.high) == (0, 0, 0, 1)


def test_buckets_are_scored_apart_and_ordered_by_number() -> None:
    answers = [answered("a", "a", size="10 to 12"), answered("a", "b", size="8 to 10"), answered("a", "a", other="x")]
    answers += [answered("a", "a", size="up to 8"), answered("a", "a", size="over 12")]
    found = score_buckets(answers)
    assert list(found) == ["all", "size", "other"]
    assert list(found["size"]) == ["up to 8", "8 to 10", "10 to 12", "over 12"]
    assert [each.exact_match for each in found["size"].values()] == [1, 0, 1, 1]
    assert found["all"]["all"].count == 5
    assert as_json(found)["other"]["x"]["count"] == 1


def asked(**field: float) -> Question:
    return Question([], [], "", field)


def test_edges_belong_to_the_bucket_below() -> None:
    bucket = by_number("height", (2, 4.5))
    heights = {1: "up to 2", 2: "up to 2", 2.1: "2 to 4.5", 4.5: "2 to 4.5", 4.6: "over 4.5"}
    assert {height: bucket(asked(height=height)) for height in heights} == heights
    assert bucket(asked()) is bucket(Question([], [], "")) is None


def test_small_print_is_what_only_the_high_res_canvas_shows() -> None:
    assert small_print(asked(tile_cap_height=4.0, high_res_cap_height=8.0)) == "8 px or more"
    assert small_print(asked(tile_cap_height=4.0, high_res_cap_height=7.9)) == "below 8 px"
    assert small_print(asked(tile_cap_height=4.1, high_res_cap_height=9.0)) is None
    assert small_print(asked(tile_cap_height=4.0)) is small_print(Question([], [], "")) is None


def test_resolution_counts_tiles() -> None:
    bucket = by_tiles(tiny_processor().image_processor)
    assert bucket(Question([random_image(20, 50)], [], "")) == "2 tiles"
    assert bucket(Question([random_image(20, 50), random_image(90, 91)], [], "")) == "6 tiles"
    assert bucket(Question([], [], "")) == "0 tiles"
    assert "resolution" in default_buckets(tiny_processor())


# --- asking ---


def test_batches_answer_as_single_questions_do() -> None:
    model, processor = tiny_model(), tiny_processor()
    samples = [
        *make_samples(4),
        {"messages": [{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": "No"}]},
    ]
    asked = list(questions(samples))
    alone = list(answer_questions(model, processor, asked, batch_size=1, max_new_tokens=7))
    together = list(answer_questions(model, processor, iter(asked), batch_size=3, max_new_tokens=7))
    assert together == alone
    assert [answer.reference for answer in alone] == ["aa", "bbb", "cccc", "dd", "No"]
    assert {answer.buckets["resolution"] for answer in alone} == {"0 tiles", "2 tiles", "4 tiles"}


def test_answers_name_sample_and_files(tmp_path: Path) -> None:
    path = tmp_path / "page.png"
    random_image(20, 50).save(path)
    (first, second) = make_samples(2)
    samples = [{**first, "images": [{"bytes": None, "path": str(path)}]}, second]
    answers = answer_questions(tiny_model(), tiny_processor(), questions(samples), max_new_tokens=1)
    assert [(each.sample, each.images, each.videos) for each in answers] == [(0, [str(path)], []), (1, [None], [])]


def test_nothing_but_text_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are made when they are asked for, and no logits come out of `generate`."""
    model, processor = tiny_model().train(), tiny_processor()
    opened, kinds = [], []

    def stream() -> Any:
        for sample in make_samples(5):
            opened.append(1)
            yield from questions([sample])

    generate = model.generate

    def spy(**kwargs: Any) -> Any:
        assert not model.training
        kinds.append(type(tokens := generate(**kwargs)))
        return tokens

    monkeypatch.setattr(model, "generate", spy)
    answers = answer_questions(model, processor, stream(), batch_size=2, max_new_tokens=2)
    first = next(answers)
    assert len(opened) == 2
    assert all(isinstance(value, str) for value in (first.question, first.reference, first.prediction))
    assert len([first, *answers]) == 5
    assert set(kinds) == {torch.Tensor}
    assert model.training
