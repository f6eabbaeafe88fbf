# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Small print with and without a high-res tower, and with the towers joined early or late.

    python -m benchmarks.fusions RUN docs/default_model

RUN is a folder of `python -m projects.default_model.recipe`, with its warm-ups of tower and language model done. For
each fusion and seed the connector's warm-up and the finetuning run for the same few steps on the same pages, one
process each; then all answer the same questions of the test split. Writes fusions.json and fusions.png, and prints a
table. What is done is not done again, so that two calls can share the work: `--fusions cvfm` beside the others.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from fila.training.evaluation import LARGE_ENOUGH, SMALL_PRINT, Score
from fila.training.metrics import wilson_interval
from projects.default_model.recipe import FINETUNE_PAGES, FINETUNES, assemble_start, call, warm_up

FUSIONS = ("cvfm", "channel_concat", "none")
SPLIT = "tile_cap_height"


def train_and_evaluate(run: Path, fusion: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """Scores of one model, out of its folder if they are there."""
    folder = run / "fusions" / f"{fusion}-{seed}"
    result = folder / "evaluation" / "evaluation.json"
    if not result.is_file():
        if not (folder / "connector" / "weights.pt").is_file():
            size = {"steps": given.connector_steps, "batch_size": given.connector_batch_size}
            warm_up("connector", run, fusion, output=folder / "connector", seed=seed, **size)
        assemble_start(run, folder / "start", fusion, encoder=folder / "connector")
        pages = run / "pages"
        steps = ["--max-steps", str(given.steps), "--save-steps", str(given.steps), "--seed", str(seed)]
        train = [
            "--data",
            str(pages / FINETUNE_PAGES / "pages.jsonl"),
            "--learning-rate",
            str(FINETUNES["finetune"].lr),
        ]
        train += ["--batch-size", str(given.batch_size)]
        resume = ["--resume"] if any((folder / "finetune").glob("checkpoint-*")) else []
        call("fila", "train", str(folder / "start"), "-o", str(folder / "finetune"), *train, *steps, *resume)
        test = ["--data", str(pages / "test" / "pages.jsonl"), "--max-questions", str(given.questions)]
        call("fila", "evaluate", str(folder / "finetune" / "final"), *test, "-o", str(folder / "evaluation"))
    scores: dict[str, Any] = json.loads(result.read_text())["scores"]
    return scores


def pool(scores: list[dict[str, Any]]) -> Score:
    """One bucket of several seeds: the questions of all, and their interval."""
    count = sum(each["count"] for each in scores)
    right = sum(round(each["exact_match"] * each["count"]) for each in scores)
    errors = sum(each["character_error_rate"] * each["count"] for each in scores) / count
    return Score(count, right / count, *wilson_interval(right, count), errors)


def main() -> None:
    """Run what is left and report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--fusions", nargs="+", default=FUSIONS)
    parser.add_argument("--connector-steps", type=int, default=200)
    parser.add_argument("--connector-batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--questions", type=int, default=300)
    given = parser.parse_args()
    found = {
        fusion: [train_and_evaluate(given.run, fusion, seed, given) for seed in given.seeds]
        for fusion in given.fusions
    }
    curves = {
        fusion: {bucket: pool([each[SPLIT][bucket] for each in scores]) for bucket in scores[0][SPLIT]}
        for fusion, scores in found.items()
    }
    print("| fusion | " + " | ".join(f"seed {seed}" for seed in given.seeds) + " | all seeds, 95 % interval |")
    print("|---" * (len(given.seeds) + 2) + "|")
    for fusion, scores in found.items():
        small = [each[SMALL_PRINT][LARGE_ENOUGH] for each in scores]
        total = pool(small)
        cells = [f"{each['exact_match']:.1%}" for each in small]
        print(f"| {fusion} | {' | '.join(cells)} | {total.exact_match:.1%} ({total.low:.1%} to {total.high:.1%}) |")
    given.output.mkdir(parents=True, exist_ok=True)
    record = {"settings": {k: str(v) for k, v in vars(given).items() if k not in ("run", "output")}, "scores": found}
    (given.output / "fusions.json").write_text(json.dumps(record, indent=1) + "\n")
    from fila.training.plots import plot_accuracy

    plot_accuracy(curves, given.output / "fusions.png", xlabel="height of a capital on the tile canvas, pixels")


if __name__ == "__main__":
    main()
