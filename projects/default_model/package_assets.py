# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Put a trained default model into the package, with pages to ask it about, and its logs into the docs.

    python -m projects.default_model.package_assets RUN

RUN is a folder in which `python -m projects.default_model.recipe train` has come to its end.
"""

import argparse
import json
import shutil
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch

from fila.conversion.output import written_atomically, written_file
from fila.modeling.modeling_fila import FilaForConditionalGeneration
from fila.processing.processing_fila import FilaProcessor
from fila.training.data import questions
from fila.training.evaluation import answer_questions
from fila.training.plots import plot_loss, plot_shares

from .model import FUSIONS
from .recipe import FINETUNES, WARM_UPS, call, final_model, finetune_folder, warm_up_folder

DEMO_FIELDS = 4  # questions that a page of the demonstration has at least

_CARD = """---
library_name: transformers
pipeline_tag: image-text-to-text
license: apache-2.0
tags:
- fila
---

# fila's default model

FILA's architecture at {size:.1f} M parameters, trained from nothing on generated pages with small print. It answers
`What is the LABEL?` about a value without spaces that stands beside or below its label, on pages such as the project's
own generator makes. It demonstrates the architecture and is no reader of documents.

## What it does not read

- values with a space in them, so neither names nor sentences;
- words of a real language, most of the time: it learnt made-up ones;
- the characters `$`, `%`, `@` and `+`, and a decimal comma;
- codes with a 0, O, 1 or I, most of the time: its training's have none;
- a value above its label, most of the time, and many other layouts that the generator does not make;
- scans that are worse than those that the generator imitates, most of the time;
- several fields at once: `Read the first 8 fields.` is not answered right.

It never says that a page lacks a label: it answers something. Its answers come through the high-res tower; what the
tiles show hardly changes them.

The shares of right answers in the project's docs/default_model.md are of pages of its own generator, which served
training and test: other fonts, other words and two other layouts, but values of the same kinds. It also says how the
model was trained.

## Use

No code lies beside these weights: they load where the package `fila` is installed, from a clone or a wheel of its
repository. On the public index that name is another project's.
"""


def _without_auto_map(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings without the names of code that does not lie beside them."""
    return {name: value for name, value in settings.items() if name != "auto_map"}


def ship(run: Path, output: Path, fusion: str = "cvfm") -> None:
    """Write the trained model as the package carries it: half precision, without copies of the package's own code."""
    final = final_model(run, fusion)
    model = FilaForConditionalGeneration.from_pretrained(final, dtype=torch.float16)
    size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    with written_atomically(output, overwrite=True, inputs=[final]) as folder:
        model.save_pretrained(folder)
        FilaProcessor.from_pretrained(final).save_pretrained(folder)
        for code in folder.glob("*.py"):
            code.unlink()
        for path in folder.glob("*.json"):
            settings = json.loads(path.read_text(encoding="utf-8"), object_hook=_without_auto_map)
            path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(_CARD.format(size=size), encoding="utf-8")


def pick_pages(run: Path, output: Path, fonts: Path, fusion: str = "cvfm", *, count: int = 2) -> None:
    """Write pages of the test split for the demonstration: the first ones, one per layout, that the model reads right.

    Args:
        run: Folder of the run.
        output: Folder that gets `images/` and `pages.jsonl`.
        fonts: Folder of the font files.
        fusion: Of the model.
        count: How many pages.
    """
    final, candidates = final_model(run, fusion), run / "candidates"
    if not (candidates / "pages.jsonl").is_file():
        size = ["--count", "150", "--first-seed", "500000", "--fonts", str(fonts)]
        call("fila", "pages", str(candidates), "--split", "test", *size)
    model = FilaForConditionalGeneration.from_pretrained(final).eval()
    processor = FilaProcessor.from_pretrained(final)
    picked: dict[str, dict[str, Any]] = {}
    for line in (candidates / "pages.jsonl").read_text(encoding="utf-8").splitlines():
        sample = json.loads(line)
        layout = sample["fields"][0]["layout"]
        if len(picked) == count or layout in picked or len(sample["fields"]) < DEMO_FIELDS:
            continue
        asked = questions([{**sample, "images": [str(candidates / name) for name in sample["images"]]}])
        if all(each.exact for each in answer_questions(model, processor, asked, max_new_tokens=24)):
            picked[layout] = sample
    (output / "images").mkdir(parents=True, exist_ok=True)
    for sample in picked.values():
        del sample["glyphs"]
        shutil.copyfile(candidates / sample["images"][0], output / sample["images"][0])
    lines = [json.dumps(sample, separators=(",", ":")) for sample in picked.values()]
    with written_file(output / "pages.jsonl") as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")


def report(run: Path, output: Path, fusion: str = "cvfm") -> None:
    """Keep the logs of all steps, their curves, and what the evaluation found, without its answers."""
    output.mkdir(parents=True, exist_ok=True)
    logs = {}
    for name in WARM_UPS:
        logs[name] = json.loads((warm_up_folder(name, run, fusion) / "log.json").read_text(encoding="utf-8"))
    plot_shares(logs, output / "warm_ups.png", key="accuracy", title="Warm-ups: accuracy on training batches")
    curve: list[dict[str, Any]] = []
    for name in FINETUNES:
        state = json.loads((finetune_folder(name, run, fusion) / "trainer_state.json").read_text(encoding="utf-8"))
        logs[name], done = state["log_history"], max((entry["step"] for entry in curve), default=0)
        curve += [{**entry, "step": done + entry["step"]} for entry in logs[name]]
    plot_loss(curve, output / "finetune.png", title=f"{', '.join(FINETUNES)}: loss of the answers")
    kept = {name: [_rounded(entry) for entry in log] for name, log in logs.items()}
    text = json.dumps(kept).replace("}, ", "},\n").replace("], ", "],\n")
    with written_file(output / "logs.json") as partial:
        partial.write_text(text + "\n", encoding="utf-8")
    evaluation = run / f"evaluation-{fusion}"
    for path in evaluation.glob("*.png"):
        shutil.copyfile(path, output / path.name)
    text = (evaluation / "evaluation.json").read_text(encoding="utf-8")
    # the folder of the run is somewhere on this machine, which is nobody's business
    (output / "evaluation.json").write_text(text.replace(f"{run}/", ""), encoding="utf-8")


def _rounded(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in entry.items()}


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m projects.default_model.package_assets", description=__doc__.split("\n")[0]
    )
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--fonts", type=Path, help="folder of the fonts; RUN/fonts if not given")
    parser.add_argument("--fusion", choices=sorted(FUSIONS), default="cvfm")
    given = parser.parse_args()
    with as_file(files("fila") / "assets") as assets:
        ship(given.run, assets / "default_model", given.fusion)
        pick_pages(given.run, assets / "demo_pages", given.fonts or given.run / "fonts", given.fusion)
    report(given.run, Path("docs") / "default_model", given.fusion)


if __name__ == "__main__":
    main()
