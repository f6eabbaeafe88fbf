# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""How often the maximum of a heat-map lies in the value that was asked for, over the right answers about made pages.

fila pages PAGES --split test --count 150 --fonts FONTS
python benchmarks/explain.py PAGES/pages.jsonl RUN.jsonl

Answers and what their maps hit are lines of RUN.jsonl; a run that was stopped goes on there. The box of a value is
that of its characters, whose places the pages know.

touches   a pixel of the maximum lies in the value's box; for attention the maximum is one token's cell
centre    the middle of the maximum lies in it
other     as `touches`, with the box of another value of the same page: what a map of no meaning may reach
"""

import argparse
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fila.cli.ask import load_checkpoint
from fila.cli.demo import bundled_files
from fila.conversion.output import written_file
from fila.look.explain import METHODS, explain
from fila.training.metrics import bootstrap_interval, exact

Edges = tuple[float, float, float, float]  # top, left, bottom, right in pixels of the page


def value_box(sample: dict[str, Any], field: dict[str, Any]) -> Edges | None:
    """Return the box of a value on a page of `fila pages`; None if it cannot be told from its neighbours."""
    glyphs = sample["glyphs"]
    label, value = field["question"].removeprefix("What is the ").removesuffix("?"), field["answer"]
    pattern = re.escape("".join(label.split())) + r"[^\w]{0,4}?(" + re.escape("".join(value.split())) + ")"
    found = [*re.finditer(pattern, glyphs["characters"])]
    if len(found) != 1:
        return None
    start, stop = found[0].span(1)
    xs, ys = glyphs["x"][start:stop], glyphs["y"][start:stop]
    half = (xs[-1] - xs[0]) / max(1, stop - start - 1) / 2  # of a character's width
    cap = field["cap_height"] / 2
    return min(ys) - cap, xs[0] - half, max(ys) + cap, xs[-1] + half


def hits(heat: Any, box: Edges) -> tuple[bool, bool]:
    """Return whether a pixel of a map's maximum lies in a box, and whether the maximum's middle does."""
    rows, cols = np.nonzero(heat >= heat.max() * (1 - 1e-9))
    top, left, bottom, right = box
    touches = (rows + 1 > top) & (rows < bottom) & (cols + 1 > left) & (cols < right)
    row, col = rows.mean() + 0.5, cols.mean() + 0.5
    return bool(touches.any()), bool(top <= row <= bottom and left <= col <= right)


def measure(pages: Path, count: int, done: int) -> Iterator[dict[str, Any]]:
    """Yield one record per question from the page `done` on."""
    with bundled_files() as assets:
        model, processor = load_checkpoint(str(assets / "default_model"), device="cpu")
    for number, line in enumerate(pages.read_text(encoding="utf-8").splitlines()[:count]):
        if number < done:
            continue
        sample = json.loads(line)
        image = Image.open(pages.parent / sample["images"][0])
        boxes = [value_box(sample, field) for field in sample["fields"]]
        for field, box in zip(sample["fields"], boxes, strict=True):
            record = {"page": number, "question": field["question"], "answer": field["answer"], "box": box}
            others = [other for other in boxes if other not in (box, None)]
            answer = None
            for method in METHODS:
                started = time.perf_counter()
                found = explain(model, processor, image, field["question"], answer=answer, method=method)
                answer = found.answer
                record |= {"prediction": answer, "right": bool(exact(answer, [field["answer"]]))}
                if not record["right"] or box is None:
                    break
                touches, centre = hits(found.heat, box)
                other = hits(found.heat, others[0])[0] if others else None
                seconds = round(time.perf_counter() - started, 3)
                record[method] = {"touches": touches, "centre": centre, "other": other, "seconds": seconds}
            yield record


def show(records: list[dict[str, Any]]) -> None:
    """Print the table."""
    right = [record for record in records if record["right"]]
    kept = [record for record in right if "gradient" in record]
    print(f"{len(records)} answers, {len(right)} right, {len(kept)} of them with a value box that can be told\n")
    print("| method | maximum touches the value | its middle lies in the value | touches another value |")
    print("|---|---:|---:|---:|")
    for method in METHODS:
        cells = []
        for name in ("touches", "centre", "other"):
            pairs = [(r[method][name], r["page"]) for r in kept if r[method][name] is not None]
            values, pages = [float(value) for value, _ in pairs], [page for _, page in pairs]
            low, high = bootstrap_interval(values, pages) or (float("nan"), float("nan"))
            cells.append(f"{np.mean(values):.1%} ({low:.1%} to {high:.1%}) of {len(values)}")
        print(f"| `{method}` | {' | '.join(cells)} |")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pages", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--count", type=int, default=150, help="pages, from the first on")
    given = parser.parse_args()
    torch.set_num_threads(1)
    records: list[dict[str, Any]] = []
    if given.run.is_file():
        records = [json.loads(line) for line in given.run.read_text(encoding="utf-8").splitlines()]
    last = max((record["page"] for record in records), default=-1)
    records = [record for record in records if record["page"] < last]  # the last page may be half done
    with written_file(given.run) as partial:
        partial.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    with given.run.open("a", encoding="utf-8") as file:
        for record in measure(given.pages, given.count, max(last, 0)):
            file.write(json.dumps(record) + "\n")
            file.flush()
            records.append(record)
    show(records)


if __name__ == "__main__":
    main()
