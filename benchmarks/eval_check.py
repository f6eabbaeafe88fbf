# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""lmms-eval and `fila evaluate` on the same rows: `make eval-check`.

Rows of the form of each benchmark are made from the bundled pages. lmms-eval asks them with its own tasks, of which
only the place of the data is changed; `fila evaluate`'s functions ask the prompts of these tasks. The scores must be
equal.
"""

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import lmms_eval
from datasets import Dataset, Features, Image, Sequence, Value
from lmms_eval.evaluator import simple_evaluate
from lmms_eval.tasks import TaskManager

from fila.cli.ask import load_checkpoint
from fila.cli.demo import bundled_files
from fila.training.data import open_data, questions
from fila.training.evaluation import answer_questions, score

TASKS = Path(lmms_eval.__file__).parent / "tasks"
WORD = "\nAnswer the question using a single word or phrase."
ONE_WORD = "\nAnswer the question with a single word."
# benchmark: file of its task, split, our metric, its metric, what it adds to a question, longest answer
BENCHMARKS = {
    "textvqa_val": ("textvqa/textvqa_val.yaml", "validation", "vqa", "exact_match", WORD, 256),
    "docvqa_val": ("docvqa/docvqa_val.yaml", "validation", "anls_lmms", "anls", WORD, 32),
    "chartqa": ("chartqa/chartqa.yaml", "test", "relaxed", "relaxed_overall", ONE_WORD, 16),
    "infovqa_val": ("infovqa/infovqa_val.yaml", "validation", "anls_lmms", "anls", WORD, 32),
    "ocrbench": ("ocrbench/ocrbench.yaml", "test", "contains", "ocrbench_accuracy", "", 128),
}  # fmt: skip


def columns(benchmark: str, number: int, question: str, answer: str) -> dict[str, Any]:
    """Return a row in the columns of a benchmark, with wrong and differently written answers among the right ones."""
    if benchmark == "textvqa_val":
        answers = [answer, answer.lower(), "unanswerable", answer, "the " + answer, *["a"] * 5]
        return {"question_id": number, "question": question.lower(), "answers": answers, "ocr_tokens": [answer]}
    if benchmark == "chartqa":
        return {"question": question, "answer": answer, "type": ("human_test", "augmented_test")[number % 2]}
    if benchmark == "ocrbench":
        return {"question": question, "answer": [answer], "dataset": "page", "question_type": "Doc-oriented VQA"}
    return {"questionId": str(number), "question": question, "answers": ["nothing", answer]}


def asked(benchmark: str, row: dict[str, Any]) -> str:
    """Return the prompt of the benchmark's task."""
    question = row["question"].capitalize() if benchmark == "textvqa_val" else row["question"]
    return question + BENCHMARKS[benchmark][4]


def write_rows(folder: Path, benchmark: str, pages: Path) -> Path:
    """Write the rows as Parquet, with a task that reads them, and as our lines; return the lines."""
    folder.mkdir()
    rows, lines = [], []
    for sample in open_data(pages):
        for field in sample["fields"]:
            row = columns(benchmark, len(rows), field["question"], field["answer"])
            answers = row.get("answers") or row["answer"]
            answers = answers if isinstance(answers, list) else [answers]
            own = {"question": asked(benchmark, row), "answer": answers[0], "answers": answers}
            lines.append({"images": sample["images"], "messages": [], "fields": [own]})
            rows.append({**row, "image": sample["images"][0]})
    features = {name: _feature(value) for name, value in rows[0].items()} | {"image": Image()}
    Dataset.from_list(rows, features=Features(features)).to_parquet(folder / "rows.parquet")
    file, split, *_ = BENCHMARKS[benchmark]
    (folder / f"{benchmark}.yaml").write_text(
        f"include: {TASKS / file}\ntask: local_{benchmark}\ntag: []\ndataset_path: parquet\ndataset_name: null\n"
        f"dataset_kwargs:\n  token: false\n  data_files:\n    {split}: {folder / 'rows.parquet'}\n"
    )
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def _feature(value: object) -> Any:
    if isinstance(value, list):
        return Sequence(Value("string"))
    return Value("int64" if isinstance(value, int) else "string")


def main() -> None:
    """Print both scores of every benchmark; exit with an error if two differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", help="the model that comes with fila by default")
    parser.add_argument("--batch-size", type=int, default=4)
    given = parser.parse_args()
    differ = []
    with bundled_files() as assets, tempfile.TemporaryDirectory() as folder:
        checkpoint = given.checkpoint or str(assets / "default_model")
        pages = assets / "demo_pages" / "pages.jsonl"
        model, processor = load_checkpoint(checkpoint, device="cpu")
        print(f"{'benchmark':14} {'questions':>9} {'metric':>10} {'lmms-eval':>10} {'fila':>10}")
        for benchmark, (_, _, metric, theirs, _, longest) in BENCHMARKS.items():
            path = write_rows(Path(folder) / benchmark, benchmark, pages)
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                results = simple_evaluate(
                    model="fila",
                    model_args=f"pretrained={checkpoint}",
                    tasks=[f"local_{benchmark}"],
                    batch_size=given.batch_size,
                    device="cpu",
                    task_manager=TaskManager(include_path=str(path.parent), model_name="fila"),
                    bootstrap_iters=0,
                )
            found = results["results"][f"local_{benchmark}"][f"{theirs},none"]
            data = open_data(path)
            answers = answer_questions(model, processor, questions(data), batch_size=3, max_new_tokens=longest)
            own = score(list(answers), [metric])
            value = own.metrics[metric].value
            if benchmark == "ocrbench":
                found *= 1000 / own.count  # it divides by its own number of questions, whatever was asked
            print(f"{benchmark:14} {own.count:9} {metric:>10} {found:10.6f} {value:10.6f}")
            if abs(found - value) > 1e-9:
                differ.append(benchmark)
    if differ:
        sys.exit(f"The scores of {differ} differ.")


if __name__ == "__main__":
    main()
