# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fila.training.answering import _TAKES_FEATURES, Answerer, source_key
from fila.training.data import Question, questions
from fila.training.evaluation import (
    Answered,
    answer_questions,
    as_json,
    by_number,
    by_tiles,
    default_buckets,
    page_of,
    score,
    score_buckets,
    small_print,
)
from fila.training.metrics import wilson_interval
from tests.cases import each
from tests.helpers import random_image, tiny_model, tiny_processor
from tests.training.samples import make_samples


def answered(reference: str, prediction: str, **buckets: str) -> Answered:
    return Answered("?", reference, prediction, buckets)


def test_scores() -> None:
    found = score([answered("12.50", "12.50"), answered("a  b", "a b"), answered("abc", "xbcd"), answered("no", "")])
    assert (found.count, found.exact_match) == (4, 0.5)
    assert found.character_error_rate == (0 + 1 + 2 + 2) / 14
    assert (found.low, found.high) == wilson_interval(2, 4)
    nothing = score([])
    assert (nothing.count, nothing.exact_match, nothing.low, nothing.high) == (0, 0, 0, 1)


def test_several_references_empty_answers_and_metrics() -> None:
    answers = [
        Answered("?", "slip A", "Slip A", {}, 0, references=["slip A", "Slip A"], page="a"),
        Answered("?", "slip A", " ", {}, 1, references=["slip A", "x"], page="a"),
        Answered("?", "40", "41", {}, 2, page="b"),
    ]
    found = score(answers)
    assert (found.count, found.pages, found.empty, found.exact_match) == (3, 2, 1, 1 / 3)
    assert list(found.metrics) == ["exact", "anls", "relaxed"]
    assert found.metrics["exact"].value == found.exact_match
    assert (found.metrics["exact"].low, found.metrics["exact"].high) == (0, 0.5)
    assert found.metrics["relaxed"].value == 2 / 3
    assert found.character_error_rate == (0 + 5 + 1) / (6 + 6 + 2)
    assert list(score(answers, ["vqa"]).metrics) == ["vqa"]
    assert as_json(score_buckets(answers))["all"]["all"]["metrics"]["relaxed"]["value"] == 2 / 3
    assert score(answers[:2]).metrics["anls"].low is None


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


def test_a_page_is_known_by_its_file_or_its_content() -> None:
    image, other = random_image(20, 50), random_image(20, 51)
    pages = [
        page_of(Question([source], [], "")) for source in (image, image.copy(), other, "a.png", {"path": "a.png"})
    ]
    assert pages[0] == pages[1] != pages[2]
    assert pages[3] == pages[4] == "a.png"
    assert page_of(Question([], [], "")) == ""


def test_an_image_is_encoded_once_for_all_questions_about_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three pages with three questions each, in batches of four: an image of two batches is not encoded again."""
    model, processor = tiny_model(), tiny_processor()
    fields = [{"question": text, "answer": "a", "answers": ["b", "a"]} for text in ("Who?", "Where to?", "Hm?")]
    pages = [random_image(20, 50), random_image(90, 91), random_image(40, 30)]
    asked = list(questions([{"images": [image], "messages": [], "fields": fields} for image in pages]))
    apart = [next(answer_questions(model, processor, [one], batch_size=1, max_new_tokens=7)) for one in asked]
    encoded: list[int] = []
    tower = model.model.vision_tower.forward

    def spy(pixels: Any, *args: Any, **kwargs: Any) -> Any:
        encoded.append(len(pixels))
        return tower(pixels, *args, **kwargs)

    monkeypatch.setattr(model.model.vision_tower, "forward", spy)
    together = list(answer_questions(model, processor, asked, batch_size=4, max_new_tokens=7))
    assert together == apart
    assert len({answer.prediction for answer in apart}) > 3
    assert together[0].references == ["b", "a"]
    assert encoded == ([2, 1] if _TAKES_FEATURES else [4, 4, 1])


STREAMS = {"type": "streams", "streams": [{"tap": 1, "before": 0}, {"layer": "fusion", "before": 1}]}


@pytest.mark.skipif(not _TAKES_FEATURES, reason="older transformers take no features")
@each("changes", [{}, {"injection": STREAMS}])
def test_questions_about_the_same_images_share_what_comes_before_them(changes: dict[str, Any]) -> None:
    """The language model reads the images once; later questions about them too go on from there."""
    model, processor, images = tiny_model(**changes), tiny_processor(), [random_image(20, 50), random_image(90, 91)]
    content: list[dict[str, str]] = [{"type": "image"}, {"type": "image"}]
    asked = [
        Question(images, [{"role": "user", "content": [*content, {"type": "text", "text": text}]}], "a")
        for text in ("Who?", "Where to?", "Hm?", "And how did it come here?")
    ]
    apart = [Answerer(model, processor, 7, confidence=True)([one])[0] for one in asked]
    read: list[tuple[int, int]] = []
    model.model.language_model.register_forward_pre_hook(
        lambda _, args, given: read.append(tuple(given["inputs_embeds"].shape[:2])), with_kwargs=True
    )
    answerer = Answerer(model, processor, 7, confidence=True)
    together = [*answerer(asked[:3]), *answerer(asked[3:])]
    assert [one.text for one in together] == [one.text for one in apart]
    assert [one.logprob for one in together] == pytest.approx([one.logprob for one in apart], abs=1e-4)
    (_, prefix), (rows, rest) = read[:2]
    assert (rows, len(read)) == (3, 1 + 2 * 7)
    assert rest < prefix / 4  # three questions
    assert max(length for _, length in read[2:]) < 2 * len("And how did it come here?")
    assert len({one.text for one in together}) > 1


def test_pictures_of_equal_pixels_are_told_apart_by_what_the_pixels_mean() -> None:
    image = random_image(20, 50)
    turned, grey = image.copy(), Image.fromarray(np.zeros((9, 9), np.uint8), "P")
    turned.getexif()[0x0112] = 3
    red = grey.copy()
    grey.putpalette([9, 9, 9]), red.putpalette([255, 0, 0])
    files = [{"bytes": b"", "path": path} for path in ("a.png", "b.png")]
    for one, other in ((image, turned), (grey, red), files):
        assert source_key(one) != source_key(other)


@each("settings", [{"max_prompt_image_tokens": 128, "image_token_policy": "shrink_images"}, {"packed_images": True}])
def test_an_image_answers_alone_as_beside_others(settings: dict[str, Any]) -> None:
    """A budget makes an image smaller beside another one."""
    model, processor = tiny_model(), tiny_processor()
    first, second = random_image(130, 130), random_image(128, 140)
    content = [{"type": "image"}, {"type": "text", "text": "Hm?"}]
    asked = [Question(own, [{"role": "user", "content": content[:1] * len(own) + content[1:]}], "a")
             for own in ([second], [first, second])]  # fmt: skip
    apart = [Answerer(model.eval(), processor, 5)([one])[0] for one in asked] if "packed_images" in settings else None
    for name, value in settings.items():
        setattr(processor, name, value)
    apart = apart or [Answerer(model.eval(), processor, 5)([one])[0] for one in asked]
    assert Answerer(model, processor, 5)(asked) == apart


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
