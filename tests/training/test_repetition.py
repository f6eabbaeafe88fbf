# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Answers that repeat themselves without end are stopped; tables, dot leaders, code and digits are not."""

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from fila.training.repetition import CHARACTERS, TIMES, RepetitionStop, find_repetition, stopped_by
from tests.cases import each
from tests.promises.shipped import MODEL

LOOPS = [
    "a", "-", ". ", "0", "ab", "the ", "no no ", "and so on, ", "1234567890", "|  |", "--- ", "<td></td>",
    "x = x + 1; ", "Total: 0.00 ", "I do not know. ", "- item one of many ", "Page 3 of 12. ",
    "the same sentence again and again, ",
    "A long line of words that a model may write once and then once more. ", "0.00 | 0.00 | ",
]  # fmt: skip


def legitimate() -> Iterator[str]:
    """200 texts that repeat things and end."""
    rng = Random(7)
    words = "north river table orange seven margin letter quiet engine paper stone winter".split()  # noqa: SIM905
    for _ in range(40):  # tables
        columns = rng.randint(2, 6)
        head = "| " + " | ".join(rng.choice(words) for _ in range(columns)) + " |\n" + "|---" * columns + "|\n"
        cell = rng.choice(("0", "-", "n/a", "yes", "0.00", ""))
        rows = (
            "| "
            + " | ".join(cell if rng.random() < 0.7 else str(rng.randint(0, 99)) for _ in range(columns))
            + f" | {n} |"
            for n in range(rng.randint(2, 12))
        )
        yield head + "\n".join(rows)
    for _ in range(40):  # dot leaders
        mark = rng.choice((".", " .", ". ", "_", "-"))
        yield "\n".join(
            f"{rng.choice(words).capitalize()} {mark * rng.randint(5, 30)} {rng.randint(1, 300)}"
            for _ in range(rng.randint(1, 15))
        )
    for _ in range(40):  # code
        indent = "    " * rng.randint(1, 5)
        lines = [f"{indent}{rng.choice(words)}[{n}] = {rng.choice(words)}({n})" for n in range(rng.randint(1, 10))]
        yield "def run():\n" + "\n".join(lines) + f"\n{'#' * rng.randint(10, 60)}\n" + "}" * rng.randint(1, 6)
    for _ in range(40):  # digits
        digit = rng.choice("0123456789")
        yield " ".join(digit * rng.randint(1, 9) for _ in range(rng.randint(2, 8))) + f" {rng.random():.9f} {'0' * 40}"
    for _ in range(40):  # prose that repeats a phrase
        phrase = " ".join(rng.sample(words, 3)) + rng.choice((". ", ", ", "! "))
        yield phrase * rng.randint(2, 4) + " ".join(rng.choice(words) for _ in range(30))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(MODEL)


def fired(stop: RepetitionStop, prompt: list[int], tokens: list[int]) -> int | None:
    """The number of new tokens at which a row is stopped."""
    for count in range(1, len(tokens) + 1):
        if bool(stop(torch.tensor([prompt + tokens[:count]]), None)):  # type: ignore[arg-type]
            return count
    return None


@each("unit", LOOPS)
def test_loop_is_stopped_soon(unit: str, tokenizer: Any) -> None:
    assert len(LOOPS) == 20
    tokens = tokenizer("Some words before it: " + unit * 200, add_special_tokens=False)["input_ids"][:1500]
    count = fired(RepetitionStop(tokenizer), [1, 2, 3], tokens)
    assert count is not None
    repeats = max(TIMES, -(-CHARACTERS // len(unit)))
    fourth = len(tokenizer("Some words before it: " + unit * repeats, add_special_tokens=False)["input_ids"])
    assert count <= fourth + 64
    cut = stopped_by(tokens[:count], tokenizer)
    assert cut is not None
    assert cut.times >= TIMES
    text = tokenizer.decode(tokens[:count], skip_special_tokens=True)
    assert cut.cut(text).startswith("Some words before it:")
    assert len(cut.cut(text)) <= len("Some words before it: ") + len(unit)


def test_texts_that_end_are_left_alone(tokenizer: Any) -> None:
    texts = [*legitimate()]
    assert len(texts) == len(set(texts)) == 200
    false = []
    for text in texts:
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        false += [text for count in range(1, len(tokens) + 1, 3) if stopped_by(tokens[:count], tokenizer)]
    assert not false


def test_unit_is_primitive_and_long_enough() -> None:
    found = find_repetition("abab" * 20)
    assert found is not None
    assert found.unit == "ab"
    assert find_repetition("ab" * 15) is None  # 30 characters
    assert find_repetition("a longer unit of text " * 3) is None
    assert find_repetition("") is None


def test_rows_are_judged_each_alone(tokenizer: Any) -> None:
    loop = tokenizer("no " * 100, add_special_tokens=False)["input_ids"]
    letters = "".join(Random(1).choices("abcdefghijklmnopqrstuvwxyz", k=400))
    other = tokenizer(letters, add_special_tokens=False)["input_ids"]
    stop = RepetitionStop(tokenizer)
    found = torch.zeros(2, dtype=torch.bool)
    for count in range(1, 200):
        found = found | stop(torch.tensor([loop[:count], other[:count]]), None)  # type: ignore[arg-type]
    assert found.tolist() == [True, False]


def test_prompt_that_repeats_is_no_answer(tokenizer: Any) -> None:
    prompt = tokenizer("again " * 100, add_special_tokens=False)["input_ids"]
    assert (
        fired(RepetitionStop(tokenizer), prompt, tokenizer("A short answer.", add_special_tokens=False)["input_ids"])
        is None
    )
