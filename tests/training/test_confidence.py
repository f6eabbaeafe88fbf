# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The confidence in an answer is the probability that a forward pass gives to it."""

import math
from itertools import islice
from typing import Any

import pytest
import torch

from fila.training.answering import Answerer
from fila.training.confidence import AnswerScores, calibration_error, reliability
from fila.training.data import open_data, questions
from tests.promises.shipped import PAGES, load


@pytest.fixture(scope="module")
def shipped() -> tuple[Any, Any]:
    return load(dtype=torch.float32)


def test_confidence_is_what_a_forward_pass_gives(shipped: tuple[Any, Any]) -> None:
    model, processor = shipped
    asked = [*islice(questions(open_data(PAGES)), 3)]
    found = Answerer(model, processor, 20, confidence=True)(asked)
    plain = Answerer(model, processor, 20)(asked)
    assert [one.text for one in found] == [one.text for one in plain] == [one.answer for one in asked]
    assert all(one.logprob is None and one.confidence == 1 for one in plain)
    for question, one in zip(asked, found, strict=True):
        content = [{"type": "image", "image": question.images[0]}, {"type": "text", "text": question.text}]
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        length = inputs["input_ids"].shape[1]
        tokens = model.generate(**inputs, max_new_tokens=20)
        inputs["input_ids"], inputs["attention_mask"] = tokens, torch.ones_like(tokens)
        with torch.no_grad():
            logprobs = model(**inputs).logits[0, length - 1 : -1].log_softmax(-1)
        expected = float(logprobs.gather(1, tokens[0, length:, None]).sum())
        assert one.tokens == tokens.shape[1] - length
        assert one.logprob == pytest.approx(expected, abs=1e-3)  # measured: 2e-5
        assert one.confidence == pytest.approx(math.exp(expected), abs=1e-3)


def test_scores_refuse_beams(shipped: tuple[Any, Any]) -> None:
    scores = AnswerScores()
    scores._keep.logprobs = torch.zeros(3, 5)
    with pytest.raises(ValueError, match="set `num_beams` to 1"):
        scores(torch.zeros(2, 4, dtype=torch.long), None)  # type: ignore[arg-type]


def test_reliability_counts_every_answer_once() -> None:
    confidences, right = [0.0, 0.05, 0.5, 0.95, 1.0], [False, True, True, True, True]
    bins = reliability(confidences, right)
    assert sum(each.count for each in bins) == 5
    assert [each.count for each in bins] == [2, 0, 0, 0, 0, 1, 0, 0, 0, 2]
    assert calibration_error(bins) == pytest.approx((2 * abs(0.025 - 0.5) + 0.5 + 2 * 0.025) / 5)
