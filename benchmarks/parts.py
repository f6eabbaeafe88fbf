# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""What each part of the default model can do alone, step by step of its training.

    python -m benchmarks.parts RUN

RUN is a folder of `python -m projects.default_model.recipe`. Towers name the characters of patches; the language model
answers about pages that are spelled to it, an answer being right if each of its tokens is the most likely one after
the right ones before it; the encoder makes image tokens, which explain a share of the variance of spelled ones. On
pages that were trained on, and on pages of the test split, by layout. Prints a table.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from projects.default_model.model import HIGH_RES_DEPTHS, make_model, make_processor
from projects.default_model.recipe import (
    BLENDS,
    LANGUAGE_STEPS,
    OF_FUSION,
    SHALLOW,
    TELL_LINES,
    TOWER_STEPS,
    load_parts,
    warm_up_folder,
)
from projects.default_model.warm_up import ConnectorWarmUp, GlyphPages, LanguageWarmUp, SpelledPages, TowerWarmUp

TRAINED = "varied"  # pages that the later steps train on; all steps are asked about the same
Shares = dict[str, list[float]]  # by kind of page


def layouts(pages: Path, count: int) -> list[str]:
    """Layout of each of the first pages."""
    lines = pages.read_text(encoding="utf-8").splitlines()[:count]
    return [json.loads(line)["fields"][0]["layout"] for line in lines]


def spans(labels: torch.Tensor) -> Iterator[tuple[int, int]]:
    """First and last place, exclusive, of each answer: supervised tokens in a row."""
    start = None
    for place, supervised in enumerate([*(labels != -100).tolist(), False]):
        if supervised and start is None:
            start = place
        elif not supervised and start is not None:
            yield start, place
            start = None


def answers_right(reader: LanguageWarmUp, batch: dict[str, torch.Tensor]) -> list[float]:
    """For each answer of a page whether each of its tokens is the most likely one."""
    embedding = reader.language_model.embed_tokens
    is_image = (batch["input_ids"] == reader.image_token_id)[..., None]
    embedded = embedding(batch["input_ids"]).masked_scatter(is_image, reader.spelled(batch["spelling"]))
    hidden = reader.language_model(inputs_embeds=embedded, use_cache=False).last_hidden_state
    best = F.linear(hidden, embedding.weight).argmax(-1)[0]
    labels = batch["labels"][0]
    return [float(torch.equal(best[start - 1 : end - 1], labels[start:end])) for start, end in spans(labels)]


def scores(name: str, run: Path, pages: Path, count: int) -> Shares:
    """Shares of one step on the first pages of a file, by layout."""
    processor = make_processor()
    model = make_model(processor, high_res_depths=SHALLOW if name in TOWER_STEPS[:-1] else HIGH_RES_DEPTHS)
    told: dict[str, Any] = {"blend": BLENDS.get(name, 0.0), "lines": name in TELL_LINES}
    weights = torch.load(warm_up_folder(name, run, "cvfm") / "weights.pt")
    found: Shares = defaultdict(list)
    if name in LANGUAGE_STEPS:
        reader = LanguageWarmUp(model, processor.tokenizer)
        spelled = SpelledPages(pages, processor, answers_only=True, **told)
        reader.load_state_dict(weights)
        for number, layout in enumerate(layouts(pages, count)):
            found[layout] += answers_right(reader.eval(), spelled.collate([spelled[number]]))
        return found
    glyphs = GlyphPages([pages], processor, shift=0, **told)
    if name in TOWER_STEPS:
        warmed: Any = TowerWarmUp(model.model.vision_tower.high_res_tower)
    else:
        warmed = ConnectorWarmUp(model, load_parts(model, processor, run).spelled)
    warmed.load_state_dict(weights)
    collate = glyphs.images if name in OF_FUSION else glyphs.canvases
    for number, layout in enumerate(layouts(pages, count)):
        found[layout].append(warmed.eval()(**collate([glyphs[number]]))["accuracy"].item())
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--steps", nargs="+", default=[*TOWER_STEPS, *LANGUAGE_STEPS, *OF_FUSION])
    parser.add_argument("--pages", type=int, default=100)
    given = parser.parse_args()
    files = {kind: given.run / "pages" / kind / "pages.jsonl" for kind in (TRAINED, "test")}
    tested = sorted(set(layouts(files["test"], given.pages)))
    head = ["step", "training pages", "test pages", *(f"of them `{layout}`" for layout in tested)]
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for name in given.steps:
        with torch.no_grad():
            trained, test = (scores(name, given.run, path, given.pages) for path in files.values())
        columns = [[*chain(*found.values())] for found in (trained, test)] + [test[layout] for layout in tested]
        cells = [f"{sum(column) / len(column):.1%}" for column in columns]
        print(f"| `{name}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
