# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Time of many questions about one page: one vision pass for all, beside one for each question.

The model that comes with fila answers the questions of generated pages; the answers must be equal.
"""

import os
import platform
import sys
import time

import torch

from fila.cli.ask import load_checkpoint
from fila.cli.demo import bundled_files
from fila.training.answering import Answerer
from fila.training.data import Question, open_data, questions

QUESTIONS = 6  # per page


def asked_apart(answerer: Answerer, asked: list[Question]) -> list[str]:
    """Answer one by one; a new answerer has seen no page."""
    return [Answerer(answerer.model, answerer.processor, 32)([one])[0].text for one in asked]


def asked_in_turn(answerer: Answerer, asked: list[Question]) -> list[str]:
    """Answer one by one, with the features of the page kept."""
    return [answerer([one])[0].text for one in asked]


def asked_together(answerer: Answerer, asked: list[Question]) -> list[str]:
    """Answer the questions of a page as one batch."""
    return [
        answer.text
        for start in range(0, len(asked), QUESTIONS)
        for answer in answerer(asked[start : start + QUESTIONS])
    ]


def main() -> None:
    """Print questions per second of each way; exit with an error if answers differ."""
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    torch.set_num_threads(threads)
    with bundled_files() as assets:
        model, processor = load_checkpoint(str(assets / "default_model"), device="cpu")
    asked = list(questions(list(open_data("pages:test:8", processor))))
    by_page: dict[int | None, list[Question]] = {}
    for one in asked:
        by_page.setdefault(one.sample, []).append(one)
    asked = [one for page in by_page.values() if len(page) >= QUESTIONS for one in page[:QUESTIONS]]
    print(f"{len(asked)} questions about {len(asked) // QUESTIONS} pages, {threads} thread(s), {platform.machine()}")
    found, seconds = {}, {}
    asked_together(Answerer(model, processor, 32), asked[:QUESTIONS])  # warms up
    for way in (asked_apart, asked_in_turn, asked_together):
        started = time.perf_counter()
        found[way.__name__] = way(Answerer(model, processor, 32), asked)
        seconds[way.__name__] = time.perf_counter() - started
    for name, duration in seconds.items():
        ratio = seconds["asked_apart"] / duration
        print(f"{name:15} {duration:6.2f} s  {len(asked) / duration:6.2f} questions per second  {ratio:4.1f} times")
    if len({tuple(answers) for answers in found.values()}) != 1:
        sys.exit("The answers differ.")
    print("equal answers")


if __name__ == "__main__":
    main()
