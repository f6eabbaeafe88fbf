# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""What each tower carries: answers without the high-res tower, with grey tiles, and with another page's pixels.

    python benchmarks/towers.py CHECKPOINT DATA [--group subset] [--output towers.json]

DATA is what `fila evaluate` takes; its rows are grouped by a key of their fields. All questions are asked under every
condition. Questions of one batch are about different pages of one canvas, so "another page" is the next one of the
batch. A canvas that a single page has is left out. Prints a Markdown table.
"""

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from fila.cli.ask import load_checkpoint
from fila.cli.demo import without_high_res
from fila.conversion.output import written_file
from fila.modeling.modeling_fila import FilaForConditionalGeneration
from fila.processing.processing_fila import FilaProcessor
from fila.training.data import Question, image_size, open_data, questions
from fila.training.evaluation import Answered, answer_questions, score

CONDITIONS = (
    "as it is",
    "without the high-res tower",
    "another page's high-res canvas",
    "grey tiles",
    "another page's tiles",
)
BATCH = 16


@contextmanager
def condition(model: FilaForConditionalGeneration, name: str) -> Iterator[None]:
    """Change what the encoder gets inside the block."""

    def change(module: Any, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        tiles, *rest = given
        if name == "grey tiles":
            tiles = torch.zeros_like(tiles)
        elif name == "another page's tiles":
            tiles = tiles.roll(1, 0)
        elif name == "another page's high-res canvas":
            named = {**named, "high_res_pixel_values": named["high_res_pixel_values"].roll(1, 0)}
        return (tiles, *rest), named

    with ExitStack() as stack:
        if name == "without the high-res tower":
            stack.enter_context(without_high_res(model))
        hook = model.model.vision_tower.register_forward_pre_hook(change, with_kwargs=True)
        stack.callback(hook.remove)
        yield


def batches(asked: Iterable[Question], processor: FilaProcessor) -> Iterator[tuple[Question, ...]]:
    """Yield questions about different pages of one canvas."""
    groups, turns = defaultdict[Any, list[Question]](list), Counter[int | None]()
    for question in asked:
        size = image_size(question.images[0])
        groups[processor.image_processor.plan(*size).canvas_size, turns[question.sample]].append(question)
        turns[question.sample] += 1
    for group in groups.values():
        waiting = iter(group)
        while len(batch := tuple(islice(waiting, BATCH))) > 1:
            yield batch


def measure(checkpoint: str, data: str, group: str) -> dict[str, dict[str, list[bool]]]:
    """Return whether each answer is right, by group and condition."""
    model, processor = load_checkpoint(checkpoint, device="cpu", dtype="float32")
    samples: Any = open_data(data, processor)
    found: dict[str, dict[str, list[bool]]] = defaultdict(lambda: {name: [] for name in CONDITIONS})
    for batch in batches(questions(samples[number] for number in range(len(samples))), processor):
        for name in CONDITIONS:
            with condition(model, name):
                answers = answer_questions(
                    model, processor, batch, buckets={}, batch_size=len(batch), max_new_tokens=40
                )
                for question, answer in zip(batch, answers, strict=True):
                    of = (question.field or {}).get(group, "all")
                    found[str(of)][name].append(answer.exact)
    return found


def shown(rights: list[bool]) -> str:
    """Format a share and its interval."""
    made = score([Answered("", "x", "x" if right else "", {}) for right in rights])
    return f"{made.exact_match:.1%} ({made.low:.1%} to {made.high:.1%})"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint")
    parser.add_argument("data")
    parser.add_argument("--group", default="subset")
    parser.add_argument("--output", type=Path, help="JSON with whether each answer is right")
    given = parser.parse_args()
    found = measure(given.checkpoint, given.data, given.group)
    if given.output:
        with written_file(given.output) as partial:
            partial.write_text(json.dumps(found), encoding="utf-8")
    print(f"| {given.group} | n | {' | '.join(CONDITIONS)} |\n|{'---|' * (len(CONDITIONS) + 2)}")
    for name, rights in found.items():
        cells = [shown(rights[condition]) for condition in CONDITIONS]
        print(f"| {name} | {len(rights[CONDITIONS[0]])} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
