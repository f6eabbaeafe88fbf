# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Train the second edition of the default model: the first edition's weights and geometry, pages that people print.

    python projects/default_model/second_edition.py pages RUN     # fonts, the start, 60 questions to watch it by
    python projects/default_model/second_edition.py train RUN     # at a constant rate until it is stopped; resumes
    python projects/default_model/second_edition.py finish RUN --steps 1500    # the rate falls; weights into RUN/final

Training pages are made while it trains, so that none comes twice. `train` saves every 5 minutes and when it gets
SIGTERM, and goes on where it stopped when it is called again; so does `finish`.
"""

import argparse
import functools
import json
import os
import signal
import sys
import time
import unicodedata
from pathlib import Path
from random import Random
from typing import Any, cast

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where the folder `projects` lies
from collections.abc import Sequence

import fila
from fila.conversion.output import written_atomically, written_file
from fila.modeling.modeling_fila import FilaForConditionalGeneration
from fila.processing.image_processing_fila import FilaImageProcessor, FilaImageProcessorPil
from fila.processing.processing_fila import FilaProcessor
from fila.training.arguments import FilaTrainingArguments
from fila.training.checkpoints import last_complete_checkpoint
from fila.training.data import GeneratedSamples, open_data, questions
from fila.training.evaluation import answer_questions
from fila.training.page_files import write_sample
from fila.training.page_fonts import Face
from projects.default_model.printed_fonts import printed_faces
from projects.default_model.printed_pages import make_printed_sample
from projects.default_model.telling import TellingCollator, TellingTrainer

FIRST_EDITION = Path(fila.__file__).parent / "assets" / "default_model"
# Latin-1 letters and marks, the euro, and what word processors make of quotes and dashes.
MORE_CHARACTERS = "".join(map(chr, (*range(0xA1, 0xAD), *range(0xAE, 0x100)))) + "€–—‘’“”„•…œŒ"  # noqa: RUF001
# Marks that no decomposition leads to a letter, each beside one that the first edition knows.
_MARKS = "€£¥×÷ßæÆøØðœŒ–—‘’“”„•…µ·¿¡°§¢©®¦þ²³¹«»ºªÐÞ¬´"  # noqa: RUF001
ALIKE = dict(zip(_MARKS, "ELYx-BaAoOdoO--''\"\",*.u.?!oSccr|p231<>oaDP-'", strict=True))
BATCH, QUESTIONS, RATE, WARM_UP, LOWEST = 8, 12, 3e-4, 100, 0.02
TELLING = 0.5  # weight of the loss of the characters in every patch, see telling.py
SAVE_SECONDS, LOG_STEPS, EVAL_STEPS = 270, 10, 150
VALIDATION_QUESTIONS = 60


def more_letters(folder: Path) -> FilaProcessor:
    """Return the first edition's processor with a tokenizer of more characters; the ids that it had stay."""
    processor = FilaProcessor.from_pretrained(folder)
    told = json.loads(processor.tokenizer.backend_tokenizer.to_str())
    vocabulary = told["model"]["vocab"]
    for token in told["added_tokens"]:  # or else their ids would follow the new characters
        vocabulary.setdefault(token["content"], token["id"])
    for character in MORE_CHARACTERS:
        if character not in vocabulary:
            vocabulary[character] = max(vocabulary.values()) + 1
    processor.tokenizer._tokenizer = Tokenizer.from_str(json.dumps(told))
    return processor


def enlarge(model: FilaForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, known: int) -> None:
    """Give a model a row for each character of a tokenizer beyond those that it knew: that of a letter like it."""
    model.resize_token_embeddings(-(-len(tokenizer) // 8) * 8, mean_resizing=False)
    rows = cast(torch.Tensor, model.get_input_embeddings().weight)
    drawn = torch.Generator().manual_seed(0)
    with torch.no_grad():
        mean, spread = rows[5:known].mean(0), rows[5:known].std()
        rows[known:] = mean
        for token, number in tokenizer.get_vocab().items():
            if number >= known:
                like = ALIKE.get(token, unicodedata.normalize("NFD", token)[0])
                like_id = cast("int | None", tokenizer.convert_tokens_to_ids(like))
                if like_id is not None and 5 <= like_id < known:
                    rows[number] = mean + (rows[like_id] - mean) / 2  # a whole one would be written in its place
        rows[known:] += torch.randn(rows[known:].shape, generator=drawn) * spread * 0.1
    if not model.config.tie_word_embeddings:
        raise ValueError("The default model must have one table for words that it reads and writes; this one has two.")


def write_start(run: Path) -> Path:
    """Save the model that training starts from, unless it is there."""
    start = run / "start"
    if not (start / "config.json").is_file():
        known = len(FilaProcessor.from_pretrained(FIRST_EDITION).tokenizer)
        processor = more_letters(FIRST_EDITION)
        model = FilaForConditionalGeneration.from_pretrained(FIRST_EDITION, dtype=torch.float32)
        enlarge(model, processor.tokenizer, known)
        with written_atomically(start, overwrite=True) as folder:
            model.save_pretrained(folder)
            processor.save_pretrained(folder)
    return start


def write_pages(
    folder: Path,
    faces: Sequence[Face],
    image_processor: FilaImageProcessor | FilaImageProcessorPil,
    seeds: range,
    **options: Any,
) -> Path:
    """Write pages and their questions as `fila evaluate` reads them, unless they are there."""
    path = folder / "pages.jsonl"
    if not path.is_file():
        (folder / "images").mkdir(parents=True, exist_ok=True)
        lines = [
            write_sample(
                make_printed_sample(seed, image_processor, faces, **options), folder / "images", f"{number:06d}.jpg"
            )
            for number, seed in enumerate(seeds)
        ]
        with written_file(path) as partial:
            partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def prepare(run: Path) -> tuple[Path, tuple[Any, ...], Path]:
    """Return the start, the fonts and the held-out pages of a run, and make what is missing.

    Held-out pages have seeds below zero, training pages have none of those.
    """
    start = write_start(run)
    faces = printed_faces(os.environ.get("FILA_FONTS") or run / "fonts")
    image_processor = FilaProcessor.from_pretrained(start).image_processor
    held_out = write_pages(run / "held_out", faces, image_processor, range(-60, 0), num_questions=2)
    return start, faces, held_out


def schedule(step: int, fall: tuple[int, int] | None) -> float:
    """Return the rate at a step as a share of the highest; `fall` is where it begins to fall and for how many."""
    if fall is not None and step >= fall[0]:
        return max(LOWEST, 1 - (step - fall[0]) / fall[1])
    return min(1.0, (step + 1) / WARM_UP)


class _Watch(TrainerCallback):
    """Saves by the clock and on SIGTERM, asks the held-out questions, and writes the log."""

    def __init__(self, run: Path, processor: FilaProcessor, held_out: Path) -> None:
        self.run, self.processor, self.saved, self.began = run, processor, time.time(), time.time()
        samples = open_data(held_out)
        asked = questions(samples[number] for number in range(len(samples)))
        self.questions = list(asked)[:VALIDATION_QUESTIONS]
        self.stopped = False
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, *_: object) -> None:
        self.stopped = True

    def log(self, **entry: object) -> None:
        """Add a line to the log."""
        with open(self.run / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        if logs and "loss" in logs:
            seconds = round(time.time() - self.began)
            loss, rate = round(logs["loss"], 4), logs.get("learning_rate")
            worked = round(time.process_time())  # of the processor, where `seconds` are of the clock
            told = round(logs.get("told", 0.0), 4)  # of the characters, by the head of telling.py
            self.log(step=state.global_step, loss=loss, told=told, rate=rate, seconds=seconds, cpu_seconds=worked)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: FilaForConditionalGeneration | None = None,
        **kwargs: object,
    ) -> None:
        if state.global_step % EVAL_STEPS == 0:
            self.ask(cast(FilaForConditionalGeneration, model), state.global_step)
        if self.stopped:
            control.should_training_stop = True
        if self.stopped or time.time() - self.saved > SAVE_SECONDS:
            control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        self.saved = time.time()

    def ask(self, model: FilaForConditionalGeneration, step: int) -> None:
        """Ask the held-out questions and log the share of exact answers."""
        began = time.time()
        answers = list(
            answer_questions(model, self.processor, self.questions, buckets={}, batch_size=10, max_new_tokens=30)
        )
        kinds: dict[str, list[bool]] = {}
        for asked, answer in zip(self.questions, answers, strict=True):
            kind = (asked.field or {}).get("kind", "")
            group = kind if kind in ("first edition", "absent", "thing", "line") else "printed"
            kinds.setdefault(group, []).append(answer.exact)
        wrong = [[a.question, a.reference, a.prediction] for a in answers if not a.exact][:6]
        shares = {name: f"{sum(right)}/{len(right)}" for name, right in sorted(kinds.items())}
        exact = sum(answer.exact for answer in answers) / len(answers)
        self.log(step=step, exact=round(exact, 4), kinds=shares, wrong=wrong, took=round(time.time() - began))


def _make(processor: FilaProcessor, faces: Sequence[Face], seed: int) -> dict[str, Any]:
    return make_printed_sample(seed, processor.image_processor, faces, num_questions=QUESTIONS)


def train(run: Path, *, steps: int | None, threads: int) -> bool:
    """Train from the last checkpoint on: at a constant rate, or with `steps` as the rate falls in so many steps.

    Returns:
        Whether the rate has fallen to its end.
    """
    torch.set_num_threads(threads)
    start, faces, held_out = prepare(run)
    newest = last_complete_checkpoint(run) if any(run.glob("checkpoint-*")) else None
    done = int(newest.name.split("-")[1]) if newest else 0
    fall = None
    if steps is not None:
        plan = run / "finish.json"
        if not plan.is_file():
            plan.write_text(json.dumps([done, steps]), encoding="utf-8")
        fall = tuple(json.loads(plan.read_text(encoding="utf-8")))
    processor = FilaProcessor.from_pretrained(start)
    model = FilaForConditionalGeneration.from_pretrained(start, dtype=torch.float32)
    # where it resumes it gets pages that it has not had
    data = GeneratedSamples(functools.partial(_make, processor, faces), 1_000_000, first_seed=done * 1_000_000)
    arguments = FilaTrainingArguments(
        output_dir=str(run),
        per_device_train_batch_size=BATCH,
        max_steps=sum(fall) if fall else 1_000_000,
        learning_rate=RATE,
        weight_decay=0.02,
        adam_beta2=0.98,
        max_grad_norm=1.0,
        logging_steps=LOG_STEPS,
        save_strategy="steps",
        save_steps=1_000_000,
        save_total_limit=2,
        dataloader_num_workers=1,
        ignore_data_skip=True,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        bf16=os.environ.get("FILA_BF16") == "1",
        seed=Random(f"order {done}").randrange(2**31),
    )
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.02},
            {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=RATE,
        betas=(0.9, 0.98),
    )
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step, fall))
    watch = _Watch(run, processor, held_out)
    characters = sorted(token for token in processor.tokenizer.get_vocab() if len(token) == 1 and not token.isspace())
    trainer = TellingTrainer(
        weight=TELLING,
        num_classes=1 + len(characters),
        data_collator=TellingCollator(
            processor, class_of={character: number for number, character in enumerate(characters, start=1)}
        ),
        model=model,
        args=arguments,
        processing_class=processor,
        train_dataset=data,
        optimizers=(optimizer, rates),
        callbacks=[watch],
    )
    if not newest:
        watch.ask(model, 0)
    trainer.train(resume_from_checkpoint=str(newest) if newest else None)
    ended = fall is not None and trainer.state.global_step >= sum(fall)
    if ended:
        watch.ask(model, trainer.state.global_step)
        with written_atomically(run / "final", overwrite=True) as folder:
            model.half().save_pretrained(folder)
            processor.save_pretrained(folder)
        draw_curve(run)
    return ended


def draw_curve(run: Path) -> None:
    """Draw the loss and the share of exact answers of a run's log into RUN/curve.png."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    log = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    figure, axes = pyplot.subplots(figsize=(8, 4))
    for axis, name, colour in ((axes, "loss", "tab:blue"), (axes.twinx(), "exact", "tab:orange")):
        points = [(entry["step"], entry[name]) for entry in log if name in entry]
        axis.plot(*zip(*points, strict=True), color=colour, marker="." if name == "exact" else None)
        axis.set_ylabel(name, color=colour)
    axes.set_xlabel("step")
    axes.set_yscale("log")
    figure.savefig(run / "curve.png", dpi=120, bbox_inches="tight")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("pages", "train", "finish", "curve"))
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--steps", type=int, default=1500, help="of `finish`")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    if given.what == "pages":
        prepare(given.run)
    elif given.what == "curve":
        draw_curve(given.run)
    else:
        train(given.run, steps=given.steps if given.what == "finish" else None, threads=given.threads)


if __name__ == "__main__":
    main()
