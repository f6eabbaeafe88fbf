# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Pruning of image tokens: the share of tokens that is left on PDF pages, and what the default model still answers.

    python benchmarks/pruning.py pages PDF... [--count 50] [--page docs/pruning.md]
    python benchmarks/pruning.py answers DATA [--page docs/pruning.md]

`pages` draws COUNT pages of the PDFs at 150 pixels per inch, the first page of every file before the second of any,
and counts their image tokens under several settings, with and without `prune="pixelprune"`. Intervals are a bootstrap
over pages. `answers` asks the default model the questions of DATA without pruning and with several, and compares exact
match; intervals are a bootstrap over pages, those of the difference of the same questions. Both print their table, or
replace it in the page.
"""

import argparse
import os
import platform
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pypdfium2
import torch
import transformers
from PIL import Image

from fila.cli.ask import load_checkpoint
from fila.conversion.output import written_file
from fila.look.processed_image import look
from fila.look.view_settings import Eyes, open_eyes
from fila.processing.canvas_plan import Size
from fila.training.data import open_data, questions, samples_of
from fila.training.evaluation import Answered, answer_questions

CHECKPOINT = Path(__file__).parents[1] / "fila" / "assets" / "default_model"
DPI = 150
PIXELPRUNE = {"type": "pixelprune"}
# Canvas, layout, pixels per side of a tile and of a token, whether there is a high-res canvas.
SETTINGS: dict[str, dict[str, Any]] = {
    "FILA: 336-pixel tiles, both canvases": {},
    "FILA, tiles alone": {"high_res": False},
    "LLaVA-NeXT": {"canvas": {"type": "llava_next"}, "layout": {"type": "llava_next"}, "high_res": False},
    "InternVL: 448-pixel tiles, 28-pixel tokens": {
        "canvas": {"type": "internvl"},
        "layout": {"type": "internvl"},
        "tile": 448,
        "patch": 28,
        "high_res": False,
    },
    "native, 28-pixel tokens": {
        "canvas": {"type": "native", "patch_size": 14, "multiple": 2},
        "tile": 448,
        "patch": 28,
    },
}
# Of the 64 patches of a tile of the default model.
BUDGETS = ((48, 8), (32, 8), (16, 8))


def pages_of(files: Sequence[Path], count: int) -> Iterator[tuple[str, Image.Image]]:
    """Pages of PDFs: the first of every file, then the second; files that cannot be opened are left out."""
    opened = []
    for file in files:
        try:
            document = pypdfium2.PdfDocument(file)
            opened.append((file, document, len(document)))
        except pypdfium2.PdfiumError:
            continue
    number = found = 0
    while found < count and any(number < pages for *_, pages in opened):
        for file, document, pages in opened:
            if number < pages and found < count:
                found += 1
                yield f"{file.name}:{number + 1}", document[number].render(scale=DPI / 72).to_pil().convert("RGB")
        number += 1


def interval(values: Sequence[float], weights: Sequence[float], draws: int = 2000) -> tuple[float, float, float]:
    """Ratio of the sums of two lists, and the ends of its 95 % interval by a bootstrap over the entries."""
    rng, size = random.Random(0), len(values)
    ratios = []
    for _ in range(draws):
        chosen = rng.choices(range(size), k=size)
        ratios.append(sum(values[each] for each in chosen) / sum(weights[each] for each in chosen))
    ratios.sort()
    return sum(values) / sum(weights), ratios[int(0.025 * draws)], ratios[int(0.975 * draws) - 1]


def eyes_of(name: str, prune: dict[str, Any] | None) -> Eyes:
    """The settings of a row; the default model's by its checkpoint."""
    if name.startswith("the default model"):
        return open_eyes(str(CHECKPOINT), prune=prune)
    return open_eyes(**SETTINGS[name], prune=prune)


def count_pages(files: Sequence[Path], count: int) -> list[list[str]]:
    """Rows of the table of PDF pages."""
    pages = list(pages_of(files, count))
    rows = [["settings", "tokens per page", "left with pixelprune", "95 % interval", "fewest and most left of a page"]]
    for name in (*SETTINGS, "the default model: 32-pixel tiles, both canvases"):
        whole, pruned = eyes_of(name, None), eyes_of(name, PIXELPRUNE)
        before = [whole.num_tokens(whole.plan(whole.fitted(_size(image)))) for _, image in pages]
        after = [look(pruned, image).num_tokens for _, image in pages]
        share, low, high = interval(after, before)
        shares = [left / all_tokens for left, all_tokens in zip(after, before, strict=True)]
        rows.append(
            [
                name,
                f"{sum(before) / len(before):,.0f}",
                f"{share:.1%}",
                f"{low:.1%} to {high:.1%}",
                f"{min(shares):.1%} and {max(shares):.1%}",
            ]
        )
    return [*rows, [f"{len(pages)} pages of {len({name.rpartition(':')[0] for name, _ in pages})} files"]]


def _size(image: Image.Image) -> Size:
    return Size(image.height, image.width)


def answers_of(data: str, prune: dict[str, Any] | None) -> tuple[list[Answered], float]:
    """The default model's answers, and the mean number of image tokens of a question's prompt."""
    model, processor = load_checkpoint(str(CHECKPOINT), device="cpu", dtype="float32", prune=prune)
    asked = list(questions(samples_of(open_data(data))))
    tokens = 0
    for question in asked:
        prompt = processor.image_token * len(question.images)
        ids = processor(images=[list(question.images)], text=[prompt], return_tensors="np")["input_ids"]
        tokens += int((ids == processor.image_token_id).sum())
    found = answer_questions(model, processor, asked, batch_size=16, max_new_tokens=32)
    return list(found), tokens / len(asked)


def count_answers(data: str) -> list[list[str]]:
    """Rows of the table of answers."""
    rows = [["pruning", "image tokens", "left", "exact match", "95 % interval", "difference", "95 % interval"]]
    zipped = [{"type": "visionzip", "dominant": n, "contextual": m, "cls": False} for n, m in BUDGETS]
    plain, before = answers_of(data, None)
    pages = sorted({each.page for each in plain})
    for prune in (None, PIXELPRUNE, *zipped):
        found, tokens = (plain, before) if prune is None else answers_of(data, prune)
        right: list[list[float]] = [[] for _ in pages]
        gained: list[list[float]] = [[] for _ in pages]
        for own, other in zip(found, plain, strict=True):
            place = pages.index(own.page)
            right[place].append(float(own.exact))
            gained[place].append(float(own.exact) - float(other.exact))
        counts = [len(each) for each in right]
        match, low, high = interval([sum(each) for each in right], counts)
        change, less, more = interval([sum(each) for each in gained], counts)
        name = "none" if prune is None else prune["type"]
        if name == "visionzip":
            name += f", {prune['dominant']} + {prune['contextual']} of 64 per view"
        rows.append(
            [
                name,
                f"{tokens:,.1f}",
                f"{tokens / before:.1%}",
                f"{match:.1%}",
                f"{low:.1%} to {high:.1%}",
                "-" if prune is None else f"{100 * change:+.2f} points",
                "-" if prune is None else f"{100 * less:+.2f} to {100 * more:+.2f}",
            ]
        )
        print(rows[-1], flush=True)
    return [*rows, [f"{len(plain)} questions about {len(pages)} pages"]]


def as_table(rows: list[list[str]]) -> str:
    """Markdown of rows, the last of which is a sentence about them."""
    *rows, (told,) = rows
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    cpu = next((line.split(":")[1].strip() for line in _cpu_lines() if line.startswith("model name")), "")
    machine = f"{os.cpu_count()} cores, {cpu or platform.machine()}; torch {torch.__version__}"
    return "\n".join(
        [*lines, "", f"{told}; {machine}, transformers {transformers.__version__}, numpy {np.__version__}."]
    )


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def main() -> None:
    """Print a table or write it into a page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    of_pages = kinds.add_parser("pages")
    of_pages.add_argument("pdf", nargs="+", type=Path)
    of_pages.add_argument("--count", type=int, default=50)
    of_pages.add_argument("--name", default="pages", help="of the table in the page")
    of_answers = kinds.add_parser("answers")
    of_answers.add_argument("data")
    of_answers.add_argument("--name", default="answers", help="of the table in the page")
    for each in (of_pages, of_answers):
        each.add_argument("--page", type=Path)
    given = parser.parse_args()
    made = as_table(count_pages(given.pdf, given.count) if given.kind == "pages" else count_answers(given.data))
    print(made)
    if given.page is not None:
        begin, end = f"<!-- {given.name}: begin -->", f"<!-- {given.name}: end -->"
        before, rest = given.page.read_text(encoding="utf-8").split(begin)
        with written_file(given.page) as partial:
            partial.write_text(f"{before}{begin}\n{made}\n{end}{rest.split(end)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
