# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""How the default model was trained, from nothing, on generated pages.

    python -m projects.default_model.recipe pages RUN    # 15 minutes on 2 cores: pages and their fonts
    python -m projects.default_model.recipe train RUN    # hours on 2 cores: all steps below, each resumed

1. `towers`: the high-res tower names characters.
2. `letters`: it goes on with text in which every character may follow every other, so that it knows them all.
3. `deeper`: the tower gets two more blocks, which change nothing at first, and goes on.
4. `language`: the language model reads spelled pages; all text of the conversations is supervised.
5. `answers`: it goes on with the answers alone.
6. `varied`: and on with pages of any letters in any place, so that it copies what it has never seen.
7. `shares`: a character on the edge of two patches is told in both, a part in each.
8. `lines`: the two lines of a patch are told apart.
9. `connector`: low-res tower, fusion and connector spell what the high-res tower sees.
10. `encoder`: the high-res tower joins them.
11. `finetune`: everything, by `fila train`.
12. `finish`: it goes on at a lower rate.
13. `restart`: the rate goes up once more and comes down over more steps than before.
14. `again`: and once more, on new pages, some of them with heavier strokes.
15. `average`: the mean of the weights that the last two left.

Each step writes RUN/NAME with its log and weights. docs/default_model.md has the curves and what came out.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainingArguments

from fila.conversion.output import written_atomically, written_file
from fila.modeling.modeling_fila import FilaForConditionalGeneration
from fila.processing.processing_fila import FilaProcessor
from fila.training.checkpoints import last_saved_checkpoint

from .model import FUSIONS, HIGH_RES_DEPTHS, make_model, make_processor
from .muon import make_optimizer
from .warm_up import ConnectorWarmUp, GlyphPages, LanguageWarmUp, SpelledPages, TowerWarmUp, WarmUpTrainer

# Folder, and the arguments of `fila pages` that fill it. Seeds of the folders do not meet.
PAGES = {
    "dense": ["--split", "train", "--count", "12000", "--dense"],
    "read": ["--split", "train", "--count", "16000", "--first-seed", "1000000", "--read", "8"],
    "train": ["--split", "train", "--count", "20000", "--first-seed", "2000000"],
    "varied": ["--split", "varied", "--count", "24000", "--first-seed", "3000000", "--questions", "16"],
    "letters": ["--split", "varied", "--count", "12000", "--first-seed", "4000000", "--dense"],
    "test": ["--split", "test", "--count", "400"],
}


@dataclass(frozen=True)
class Step:
    """One warm-up.

    Attributes:
        steps: Optimizer steps.
        batch_size: Pages per step.
        muon_lr: Highest learning rate of the matrices.
        lr: Of everything else.
    """

    steps: int
    batch_size: int
    muon_lr: float
    lr: float

    def batch_per_process(self, processes: int) -> int:
        """Pages per step of each process."""
        return max(1, self.batch_size // processes)


WARM_UPS = {
    "towers": Step(2400, 8, 5e-3, 3e-3),
    "letters": Step(2000, 8, 3e-3, 2e-3),
    "deeper": Step(1700, 8, 3e-3, 2e-3),
    "language": Step(2000, 8, 4e-3, 3e-3),
    "answers": Step(1200, 8, 1.5e-3, 1e-3),
    "varied": Step(1600, 8, 1.5e-3, 1e-3),
    "shares": Step(1000, 8, 2e-3, 1.5e-3),
    "lines": Step(1400, 8, 2e-3, 1.5e-3),
    "connector": Step(250, 16, 3e-3, 2e-3),
    "encoder": Step(800, 16, 2e-3, 1e-3),
}
# Each goes on from the last.
TOWER_STEPS, LANGUAGE_STEPS = ("towers", "letters", "deeper"), ("language", "answers", "varied", "shares", "lines")
SHALLOW = (1, 1, 2, 2)  # depths of the high-res tower before `deeper`
BLENDS = {"shares": 0.1, "lines": 0.1, "connector": 0.1, "encoder": 0.1}  # of `spelling.shares`; 0 for the others
TELL_LINES = ("lines", "connector", "encoder")  # see `spelling.spell`
WARM_UP_PAGES = {
    "towers": ("dense", "read", "train"),
    "letters": ("letters", "varied"),
    "deeper": ("letters", "varied"),
    "language": ("read",),
    "answers": ("train",),
    "varied": ("varied",),
    "shares": ("varied",),
    "lines": ("varied",),
    "connector": ("letters", "varied"),
    "encoder": ("letters", "varied"),
}
OF_FUSION = ("connector", "encoder")  # the others are the same for every fusion
SAVE_STEPS, LOG_STEPS = 200, 25
# By `fila train`, with AdamW alone; each goes on from the last.
FINETUNES = {
    "finetune": Step(1600, 8, 0.0, 5e-4),
    "finish": Step(700, 8, 0.0, 2e-4),
    "restart": Step(3600, 8, 0.0, 4e-4),
    "again": Step(2400, 8, 0.0, 3e-4),
}
FINETUNE_PAGES = "varied"


def start_tower(tower: nn.Module) -> None:
    """Give a ConvNeXt weights that keep the size of what passes; its own begin near nothing, too slow here."""
    for name, parameter in tower.named_parameters():
        if parameter.ndim == 4 and "dwconv" in name:
            nn.init.normal_(parameter, std=1 / 7)
        elif parameter.ndim == 4:
            nn.init.kaiming_normal_(parameter, nonlinearity="linear")
        elif parameter.ndim == 2:
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5 * (0.5 if "pwconv2" in name else 1))


def prepare(name: str, run: Path, fusion: str, seed: int) -> tuple[nn.Module, Any, Any]:
    """Return the module that a warm-up trains, its data and its collator."""
    if name not in OF_FUSION:
        fusion = "cvfm"
    processor = make_processor(fusion)
    depths = SHALLOW if name in TOWER_STEPS[:-1] else HIGH_RES_DEPTHS
    model = make_model(processor, fusion, seed=seed, high_res_depths=depths)
    pages = [run / "pages" / folder / "pages.jsonl" for folder in WARM_UP_PAGES[name]]
    told: dict[str, Any] = {"blend": BLENDS.get(name, 0.0), "lines": name in TELL_LINES}
    torch.manual_seed(seed)
    if name in LANGUAGE_STEPS:
        reader = LanguageWarmUp(model, processor.tokenizer)
        load_step_before(name, LANGUAGE_STEPS, reader, run)
        spelled = SpelledPages(pages[0], processor, answers_only=name != "language", **told)
        return reader, spelled, spelled.collate
    glyphs = GlyphPages(pages, processor, times=50, **told)
    if name in TOWER_STEPS:
        tower = model.model.vision_tower.high_res_tower
        start_tower(tower)
        warmed_tower = TowerWarmUp(tower)
        load_step_before(name, TOWER_STEPS, warmed_tower, run)
        return warmed_tower, glyphs, glyphs.canvases
    reader = load_parts(model, processor, run)
    warmed = ConnectorWarmUp(model, reader.spelled)
    if name == "encoder":
        warmed.load_state_dict(torch.load(warm_up_folder("connector", run, fusion) / "weights.pt"))
    elif model.model.vision_tower.high_res_tower is not None:
        model.model.vision_tower.high_res_tower.requires_grad_(False)
    return warmed, glyphs, glyphs.images


def load_step_before(name: str, steps: tuple[str, ...], module: nn.Module, run: Path) -> None:
    """Give a module the weights of the step before, if there is one; a block that it did not have passes all on."""
    if number := steps.index(name):
        before = torch.load(run / steps[number - 1] / "weights.pt")
        weights = module.state_dict()
        if any(key not in weights for key in before):
            raise ValueError(f"{name} must have all weights of {steps[number - 1]}; it lacks some.")
        if strange := [key for key in weights if key not in before and ".stages." not in key]:
            raise ValueError(f"{steps[number - 1]} must have all weights of {name} but new blocks'; got no {strange}.")
        for key, weight in weights.items():
            if key in before:
                weight.copy_(before[key])
            elif ".pwconv2." in key:  # the last layer of a block, which is added to what the block was given
                weight.zero_()


def load_parts(model: FilaForConditionalGeneration, processor: FilaProcessor, run: Path) -> LanguageWarmUp:
    """Put the weights of the warm-ups of tower and language model into a model."""
    tower = model.model.vision_tower.high_res_tower
    if tower is not None:
        TowerWarmUp(tower).load_state_dict(torch.load(run / TOWER_STEPS[-1] / "weights.pt"))
    reader = LanguageWarmUp(model, processor.tokenizer)
    reader.load_state_dict(torch.load(run / LANGUAGE_STEPS[-1] / "weights.pt"))
    return reader


def warm_up_folder(name: str, run: Path, fusion: str) -> Path:
    """Return the folder of a warm-up."""
    return run / (f"{name}-{fusion}" if name in OF_FUSION else name)


def finetune_folder(name: str, run: Path, fusion: str) -> Path:
    """Return the folder of a finetuning; its model is in `final`."""
    return run / f"{name}-{fusion}"


def warm_up(
    name: str,
    run: Path,
    fusion: str = "cvfm",
    *,
    output: Path | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
) -> None:
    """Run one warm-up, or what is left of it.

    Args:
        name: A name of `WARM_UPS`.
        run: Folder of the run, with its pages and the warm-ups before this one.
        fusion: A name of `FUSIONS`.
        output: Folder that gets `weights.pt` and `log.json`; `warm_up_folder` by default.
        steps: Other than the recipe's.
        batch_size: Pages per step and process, other than the recipe's.
        seed: Of weights and batches.
    """
    output = output or warm_up_folder(name, run, fusion)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    module, data, collate = prepare(name, run, fusion, seed)
    step = WARM_UPS[name]
    arguments = TrainingArguments(
        output_dir=str(output),
        per_device_train_batch_size=batch_size or step.batch_per_process(int(os.environ.get("WORLD_SIZE", "1"))),
        max_steps=steps or step.steps,
        learning_rate=step.lr,
        warmup_steps=50,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.03},
        logging_steps=LOG_STEPS,
        save_steps=SAVE_STEPS,
        save_total_limit=1,
        seed=seed,
        use_cpu=not torch.cuda.is_available(),
        remove_unused_columns=False,
        report_to="none",
        ddp_find_unused_parameters=False,
    )
    optimizer = make_optimizer(module, step.muon_lr, step.lr, weight_decay=0.02)
    trainer = WarmUpTrainer(module, arguments, train_dataset=data, data_collator=collate, optimizers=(optimizer, None))
    newest = last_saved_checkpoint(output)
    trainer.train(resume_from_checkpoint=str(newest) if newest else None)
    if not trainer.is_world_process_zero():
        return
    with written_file(output / "log.json") as partial:
        partial.write_text(json.dumps(trainer.state.log_history, indent=1), encoding="utf-8")
    with written_file(output / "weights.pt") as partial:  # it says that the warm-up is done
        torch.save(module.state_dict(), partial)


def assemble_start(run: Path, output: Path, fusion: str = "cvfm", *, encoder: Path | None = None) -> None:
    """Save the model with the weights of all warm-ups as a checkpoint, for `fila train`.

    Args:
        run: Folder of the run.
        output: Folder of the checkpoint.
        fusion: A name of `FUSIONS`.
        encoder: Folder of the warm-up of encoder or connector; `warm_up_folder` of the former by default.
    """
    processor = make_processor(fusion)
    model = make_model(processor, fusion)
    reader = load_parts(model, processor, run)
    warmed = ConnectorWarmUp(model, reader.spelled)
    warmed.load_state_dict(torch.load((encoder or warm_up_folder("encoder", run, fusion)) / "weights.pt"))
    with written_atomically(output, overwrite=True) as folder:
        model.save_pretrained(folder)
        processor.save_pretrained(folder)


def average(run: Path, output: Path, fusion: str = "cvfm") -> None:
    """Save the mean of the weights that the last two finetunings left, in float32.

    Wortsman et al., "Model soups", arXiv:2203.05482: weights that were trained on from each other lie in one valley.

    Args:
        run: Folder of the run.
        output: Folder of the checkpoint.
        fusion: A name of `FUSIONS`.
    """
    first, last = (finetune_folder(name, run, fusion) / "final" for name in list(FINETUNES)[-2:])
    model, other = (FilaForConditionalGeneration.from_pretrained(path, dtype=torch.float32) for path in (last, first))
    with torch.no_grad():
        for weight, earlier in zip(model.parameters(), other.parameters(), strict=True):
            weight.lerp_(earlier, 0.5)
    with written_atomically(output, overwrite=True) as folder:
        model.save_pretrained(folder)
        FilaProcessor.from_pretrained(last).save_pretrained(folder)


def final_model(run: Path, fusion: str = "cvfm") -> Path:
    """Return the folder of the trained model."""
    return run / f"average-{fusion}"


def call(*arguments: str) -> None:
    """Call a module, such as the `fila` command, in a process of its own.

    Raises:
        RuntimeError: If it fails.
    """
    sys.stderr.write(f"$ python -m {' '.join(arguments)}\n")
    if status := subprocess.run([sys.executable, "-m", *arguments], check=False).returncode:
        raise RuntimeError(f"`python -m {' '.join(arguments)}` ended with status {status}.")


def write_all_pages(run: Path, fonts: Path) -> None:
    """Write the pages of all folders that are not there yet."""
    for name, arguments in PAGES.items():
        folder = run / "pages" / name
        if not (folder / "pages.jsonl").is_file():
            workers = str(os.cpu_count() or 1)
            call("fila", "pages", str(folder), *arguments, "--fonts", str(fonts), "--workers", workers)


def train_default_model(run: Path, fusion: str = "cvfm") -> None:
    """Run what is left of all steps, in two processes where there are two cores, and evaluate on the test split."""
    processes = min(2, os.cpu_count() or 1)
    spread = ("torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), "-m")
    for name in WARM_UPS:
        if not (warm_up_folder(name, run, fusion) / "weights.pt").is_file():
            call(*spread, "projects.default_model.recipe", name, str(run), "--fusion", fusion)
    start = run / f"start-{fusion}"
    if not (start / "config.json").is_file():
        assemble_start(run, start, fusion)
    pages = run / "pages"
    for seed, (name, step) in enumerate(FINETUNES.items()):
        output = finetune_folder(name, run, fusion)
        if not (output / "final" / "README.md").is_file():  # the last file that `save_final_model` writes
            data = ["--data", str(pages / FINETUNE_PAGES / "pages.jsonl"), "--save-steps", "100", "--seed", str(seed)]
            size = ["--max-steps", str(step.steps), "--batch-size", str(step.batch_per_process(processes))]
            rate = ["--learning-rate", str(step.lr)]
            resume = ["--resume"] if any(output.glob("checkpoint-*")) else []
            call(*spread, "fila", "train", str(start), "-o", str(output), *data, *size, *rate, *resume)
        start = output / "final"
    final = final_model(run, fusion)
    if not (final / "config.json").is_file():
        average(run, final, fusion)
    test = str(pages / "test" / "pages.jsonl")
    call("fila", "evaluate", str(final), "--data", test, "-o", str(run / f"evaluation-{fusion}"))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m projects.default_model.recipe", description=__doc__.split("\n")[0]
    )
    parser.add_argument("what", choices=("pages", "train", *WARM_UPS))
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--fonts", type=Path, help="folder of the fonts; RUN/fonts if not given")
    parser.add_argument("--fusion", choices=sorted(FUSIONS), default="cvfm")
    given = parser.parse_args()
    if given.what == "pages":
        write_all_pages(given.run, given.fonts or given.run / "fonts")
    elif given.what == "train":
        train_default_model(given.run, given.fusion)
    else:
        warm_up(given.what, given.run, given.fusion)


if __name__ == "__main__":
    main()
