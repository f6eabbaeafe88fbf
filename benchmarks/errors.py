# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""What the wrong answers of an evaluation look like.

    python benchmarks/errors.py EVALUATION/answers.jsonl PAGES/pages.jsonl

Answers of the bucket that the default model is judged by: text of at most 4 pixels on the tiles, of 8 or more on the
high-res canvas. Each wrong one is counted once, as the first of the kinds that fits.
"""

import argparse
import json
from collections import Counter, defaultdict
from pathlib import Path

from fila.training.evaluation import LARGE_ENOUGH, SMALL_PRINT
from fila.training.metrics import edit_distance


def kind(reference: str, prediction: str, others: set[str]) -> str:
    """How a wrong answer differs from the right one; `others` are the values of the page's other fields."""
    if prediction in others:
        return "the value of another field"
    if sorted(prediction) == sorted(reference):
        return "the right characters in another order"
    if (edits := edit_distance(prediction, reference)) <= 2:
        return {1: "one character"}.get(edits, "two characters")
    if not Counter(prediction) - Counter(reference):
        return "some characters left out"
    return "otherwise"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("answers", type=Path)
    parser.add_argument("pages", type=Path)
    given = parser.parse_args()
    answers = [json.loads(line) for line in given.answers.read_text(encoding="utf-8").splitlines()]
    pages = [json.loads(line)["fields"] for line in given.pages.read_text(encoding="utf-8").splitlines()]
    asked = [(field, fields) for fields in pages for field in fields]
    kinds, groups, count = Counter[str](), defaultdict[str, dict[str, list[bool]]](lambda: defaultdict(list)), 0
    for answer, (field, fields) in zip(answers, asked, strict=False):
        if answer["question"] != field["question"]:
            raise ValueError(f"The pages must be those of the answers; {answer['question']!r} is not {field!r}.")
        if answer["buckets"].get(SMALL_PRINT) != LARGE_ENOUGH:
            continue
        count += 1
        length = len(answer["reference"]) // 3 * 3
        of = {"layout": field["layout"], "font": field["family"], "characters": f"{length} to {length + 2}"}
        for group, name in of.items():
            groups[group][name].append(answer["exact"])
        if not answer["exact"]:
            others = {other["answer"] for other in fields if other is not field}
            kinds[kind(answer["reference"], answer["prediction"], others)] += 1
    print(f"{sum(kinds.values())} of {count} answers are wrong.\n\n| how | answers |\n|---|---|")
    for name, number in kinds.most_common():
        print(f"| {name} | {number} |")
    for group, found in groups.items():
        print(f"\n| {group} | questions | right |\n|---|---|---|")
        for name, exact in sorted(found.items(), key=lambda item: sum(item[1]) / len(item[1])):
            print(f"| {name} | {len(exact)} | {sum(exact) / len(exact):.1%} |")


if __name__ == "__main__":
    main()
