# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The commands `fila train`, `fila evaluate` and `fila pages`."""

import contextlib
import dataclasses
import json
import sys
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fila.cli.common import (
    Debug,
    Dtype,
    Prune,
    Trust,
    app,
    one_line_errors,
    print_table,
    read_options,
    read_prune,
    say,
)
from fila.cli.data_options import (
    BadRows,
    Boxes,
    Columns,
    Data,
    ImageFolder,
    ImagePosition,
    LeadingAnswer,
    MaxBad,
    MissingImage,
    Streaming,
    data_inputs,
    open_listed,
    read_data_options,
)

if TYPE_CHECKING:
    from fila.training.evaluation_callback import GenerativeEvalCallback
    from fila.training.trainer import FilaTrainer


Device = Annotated[str, typer.Option(help="auto or cpu; CUDA_VISIBLE_DEVICES chooses among GPUs.")]
Plots = Annotated[bool, typer.Option(help="Draw PNGs, if matplotlib is installed.")]

_NOTHING_TO_ASK = "There must be something to ask, messages of the assistant or `fields`; {} has neither."


def read_settings(pairs: list[str]) -> dict[str, Any]:
    """Read `name=value` pairs; values are JSON, or else text.

    Example:
        >>> read_settings(["weight_decay=0.1", "optim=adafactor"])
        {'weight_decay': 0.1, 'optim': 'adafactor'}
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"`--set` takes name=value; got {pair!r}.")
        try:
            settings[name] = json.loads(value)
        except json.JSONDecodeError:
            settings[name] = value
    return settings


@app.command()
@one_line_errors
def train(
    checkpoint: Annotated[str, typer.Argument(help="Folder or Hub id to start from.")],
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the training run.")],
    stage: Annotated[
        str, typer.Option(help="Training stage: align (fusion and connector) or finetune (everything).")
    ] = "finetune",
    lora: Annotated[
        str | None,
        typer.Option(
            help="Train LoRA adapters in these scopes alone, with commas between: text, connector, fusion, low_res, "
            "high_res.",
            metavar="SCOPES",
        ),
    ] = None,
    qlora: Annotated[
        str | None, typer.Option(help="As --lora, on a language model in 4 bits.", metavar="SCOPES")
    ] = None,
    lora_rank: Annotated[int, typer.Option(min=1, help="Rank of the adapters.")] = 16,
    max_steps: Annotated[int, typer.Option(min=-1, help="Optimizer steps; -1: by --epochs.")] = -1,
    epochs: Annotated[float, typer.Option(min=0, help="Passes over the data.")] = 1.0,
    learning_rate: Annotated[
        float | None, typer.Option(help="If not given align has 1e-3, finetune 2e-5, adapters 2e-4.")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Samples per forward pass and device; 8 if not given, a row with --packing."),
    ] = None,
    accumulation: Annotated[int, typer.Option(min=1, help="Forward passes per optimizer step.")] = 1,
    max_length: Annotated[int | None, typer.Option(min=1, help="Longest sequence in tokens.")] = None,
    canvas: Annotated[
        str | None,
        typer.Option(
            help="Name, or JSON object with `type` and options; if not given align makes `fila` `single` and finetune "
            "`single` `fila`, and another canvas stays."
        ),
    ] = None,
    random_scale: Annotated[
        tuple[float, float] | None, typer.Option(help="Bounds of a random resizing of the images, such as 0.5 1.5.")
    ] = None,
    group_by_resolution: Annotated[
        bool, typer.Option("--group-by-resolution", help="Fill batches with images of one canvas.")
    ] = False,
    packing: Annotated[
        bool, typer.Option("--packing", help="Fill rows of --max-length tokens with several samples each.")
    ] = False,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Less memory for more time.")
    ] = False,
    bf16: Annotated[bool, typer.Option("--bf16", help="Compute in bfloat16; weights stay in float32.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of everything that is random.")] = 0,
    logging_steps: Annotated[int, typer.Option(min=1, help="Steps between two logged losses.")] = 10,
    save_steps: Annotated[int, typer.Option(min=1, help="Steps between two checkpoints.")] = 500,
    save_limit: Annotated[int, typer.Option(min=1, help="Checkpoints that are kept.")] = 2,
    eval_data: Annotated[
        str | None, typer.Option(help="Data to ask about while training, in the forms of --data.", metavar="DATA")
    ] = None,
    eval_steps: Annotated[int, typer.Option(min=1, help="Steps between two evaluations.")] = 500,
    eval_questions: Annotated[int, typer.Option(min=1, help="Questions per evaluation.")] = 200,
    report_to: Annotated[str, typer.Option(help="none, or tensorboard, trackio, ..., with commas between.")] = "none",
    image_folder: ImageFolder = None,
    columns: Columns = None,
    bad_rows: BadRows = "error",
    max_bad: MaxBad = "1%",
    image_position: ImagePosition = "as_written",
    missing_image: MissingImage = "error",
    leading_answer: LeadingAnswer = "error",
    boxes: Boxes = None,
    streaming: Streaming = False,
    drop_instruction: Annotated[
        bool, typer.Option("--drop-instruction", help="Align: leave the user's text out, as LLaVA trains on captions.")
    ] = False,
    more: Annotated[
        list[str] | None, typer.Option("--set", help="Any other training argument, name=value; can be repeated.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest whole checkpoint in --output.")
    ] = False,
    device: Device = "auto",
    plots: Plots = True,
    trust_remote_code: Trust = False,
    debug: Debug = False,
) -> None:
    """Train a checkpoint on images and messages.

    The output folder gets `checkpoint-*` folders, the trained model in `final`, the log and its plots.
    """
    from fila.cli.library_messages import leave_out_4bit_kernel, quiet

    if lora and qlora:
        raise ValueError("Pass --lora or --qlora, not both: the second does all that the first does, in 4 bits.")
    scopes = [name.strip() for name in (lora or qlora or "").split(",") if name.strip()]
    if not scopes and (lora is not None or qlora is not None):
        raise ValueError("--lora and --qlora need scopes, such as text or text,connector.")
    if not qlora:
        leave_out_4bit_kernel()
    from fila.cli.ask import choose_device, load_checkpoint
    from fila.conversion.output import refuse_inputs
    from fila.training import scopes as scopes_of_adapters
    from fila.training.arguments import FilaTrainingArguments
    from fila.training.checkpoints import last_complete_checkpoint, last_saved_checkpoint, missing_files
    from fila.training.data import short_name
    from fila.training.final_model import save_final_model
    from fila.training.stages import set_geometry
    from fila.training.trainer import FilaTrainer

    source = "+".join(data)
    reading = read_data_options(
        image_folder,
        columns,
        bad_rows,
        max_bad,
        image_position,
        missing_image,
        leading_answer,
        boxes,
        streaming,
    )
    if drop_instruction and stage != "align":
        raise ValueError(f"--drop-instruction is for --stage align; got --stage {stage}.")
    reading["drop_instruction"] = drop_instruction
    known = {field.name for field in dataclasses.fields(FilaTrainingArguments)}
    settings = read_settings(more or [])
    if unknown := sorted(set(settings) - known):
        raise ValueError(f"`--set` takes fields of transformers' TrainingArguments; there is no {unknown}.")
    if max_steps == 0:
        raise ValueError("--max-steps must be positive, or -1 for as many as --epochs takes; got 0.")
    refuse_inputs(output / "final", [checkpoint, *data_inputs(source, reading), *data_inputs(eval_data, reading)])
    if any(output.glob("checkpoint-*")) and not resume:
        raise ValueError(f"{output} holds checkpoints of a training run; pass --resume to go on, or another --output.")
    found = last_complete_checkpoint(output) if resume else None
    # an incomplete checkpoint of a killed process is no loss; a complete one that cannot be resumed may be wanted
    if resume and found is None and last_saved_checkpoint(output):
        lacking = {folder.name: missing_files(folder) for folder in sorted(output.glob("checkpoint-*"))}
        raise ValueError(
            f"No checkpoint in {output} can be resumed from; what they lack: {lacking}. Put it back, or remove them "
            f"to start again from {checkpoint}."
        )
    if device not in ("auto", "cpu"):
        raise ValueError(f"--device must be auto or cpu; got {device!r}. CUDA_VISIBLE_DEVICES chooses among GPUs.")
    if save_steps % logging_steps:
        raise ValueError(
            f"--save-steps must be a multiple of --logging-steps, or a resumed log does not go on where it stopped; "
            f"got {save_steps} and {logging_steps}."
        )
    # newer transformers has renamed this argument
    checkpointing = next(n for n in ("activation_checkpointing", "gradient_checkpointing") if n in known)
    options: dict[str, Any] = {
        "output_dir": str(output),
        "stage": None if scopes else stage,  # adapters choose what trains
        "max_steps": max_steps,
        "num_train_epochs": epochs,
        "learning_rate": 2e-4 if scopes and learning_rate is None else learning_rate,
        "per_device_train_batch_size": batch_size or (1 if packing else 8),
        "gradient_accumulation_steps": accumulation,
        "max_length": max_length,
        "random_scale": list(random_scale) if random_scale else None,
        "group_by_resolution": group_by_resolution,
        "packing": packing,
        checkpointing: gradient_checkpointing,
        "bf16": bf16,
        "seed": seed,
        "logging_steps": logging_steps,
        "save_steps": save_steps,
        "save_total_limit": save_limit,
        "report_to": report_to.split(","),
        # set explicitly, because processes without an accelerator would not find each other
        "use_cpu": device == "cpu" or choose_device("auto").type == "cpu",
    }
    # the canvas, the folder for --resume and the checks above depend on the options
    if own := sorted(set(settings) & {*options, "gradient_checkpointing", "resume_from_checkpoint"}):
        raise ValueError(f"`--set` is for what has no option of its own; `fila train --help` has those of {own}.")
    arguments = FilaTrainingArguments(**options, **settings)
    with quiet():
        quantize = scopes_of_adapters.bnb_config if qlora else None
        model, processor = load_checkpoint(checkpoint, device="cpu", dtype="float32", quantize=quantize)
        if scopes:
            model = scopes_of_adapters.with_adapters(model, scopes, rank=lora_rank)
    before = processor.image_processor.canvas
    set_geometry(processor, stage)
    if canvas:
        processor.image_processor.canvas = read_options(canvas)
    elif processor.image_processor.canvas != before and len(before) > 1:
        told = json.dumps(before)
        say(f"canvas {told} is replaced; to get its options back, finetune needs --canvas '{told}'")
    dataset = open_listed(source, processor, reading | {"needs_answer": True}, output)
    trainer = FilaTrainer(model, arguments, processing_class=processor, train_dataset=dataset)
    what = f"adapters in {scopes}" if scopes else f"stage {stage}"
    sizes = [(parameter.numel() / 1e6, parameter.requires_grad) for parameter in model.parameters()]
    trained, everything = sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes)
    say(
        f"training {what}: {trained:.2f} of {everything:.2f} M parameters train, learning rate "
        f"{arguments.learning_rate:g}, canvas {processor.image_processor.canvas['type']}"
    )
    if resume:
        say(f"resuming from {found}" if found else f"no complete checkpoint in {output}: starting from {checkpoint}")
    asked = None
    if eval_data:
        asked = _evaluation_callback(
            trainer,
            open_listed(eval_data, processor, reading | {"drop_instruction": False}, None),
            eval_steps,
            eval_questions,
        )
        trainer.add_callback(asked)
    # Trainer logs to standard output, which is reserved for the result
    with quiet(), contextlib.redirect_stdout(sys.stderr):
        trainer.train(resume_from_checkpoint=str(found) if found else None)
        trainer.save_state()
        save_final_model(trainer, output / "final", parent=checkpoint, data=short_name(source))
    if not trainer.is_world_process_zero():
        return
    if plots and _can_plot():
        from fila.training.plots import plot_accuracy, plot_loss

        if any("loss" in entry for entry in trainer.state.log_history):
            plot_loss(trainer.state.log_history, output / "loss.png")
        else:
            say(f"no plot of the loss: the training ended before --logging-steps {logging_steps}")
        if asked and asked.scores:
            split = next(name for name in ("tile_cap_height", "resolution", "all") if name in asked.scores)
            plot_accuracy({output.name: asked.scores[split]}, output / "accuracy.png", xlabel=split)
    typer.echo(output / "final")


@app.command()
@one_line_errors
def evaluate(
    checkpoint: Annotated[str, typer.Argument(help="Folder or Hub id.")],
    data: Data,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the table as JSON, the answers and plots.")
    ] = None,
    image_folder: ImageFolder = None,
    columns: Columns = None,
    bad_rows: BadRows = "error",
    max_bad: MaxBad = "1%",
    image_position: ImagePosition = "as_written",
    missing_image: MissingImage = "error",
    leading_answer: LeadingAnswer = "error",
    boxes: Boxes = None,
    streaming: Streaming = False,
    max_questions: Annotated[int | None, typer.Option(min=1, help="Questions, at most.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Questions at once.")] = 8,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 64,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="exact, anls, anls_lmms, relaxed, vqa or contains; can be repeated. If not given: all that apply."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps, ...")] = "auto",
    dtype: Dtype = "auto",
    prune: Prune = None,
    plots: Plots = True,
    trust_remote_code: Trust = False,
    debug: Debug = False,
) -> None:
    """Ask a checkpoint the questions of a data set and score its answers.

    The scores are exact match with 95 % intervals, other metrics and character error rate, for all questions and by
    bucket. Wilson's interval counts the questions as independent; the other one draws whole pages.
    """
    from itertools import islice

    from fila.cli.ask import load_checkpoint
    from fila.cli.library_messages import quiet
    from fila.conversion.output import refuse_inputs, written_file
    from fila.training.data import has_uncounted_pages, questions, samples_of
    from fila.training.evaluation import answer_questions, as_json, score_buckets
    from fila.training.metrics import METRICS

    if unknown := sorted(set(metric or ()) - METRICS.keys()):
        raise ValueError(f"`--metric` must be one of {sorted(METRICS)}; got {unknown}.")
    source = "+".join(data)
    reading = read_data_options(
        image_folder,
        columns,
        bad_rows,
        max_bad,
        image_position,
        missing_image,
        leading_answer,
        boxes,
        streaming,
    )
    inputs = data_inputs(source, reading)
    if output is not None:
        for name in ("answers.jsonl", "evaluation.json"):
            refuse_inputs(output / name, inputs, is_new_file=True)  # before any work
    with quiet():
        model, processor = load_checkpoint(checkpoint, device=device, dtype=dtype, prune=read_prune(prune))
    dataset = open_listed(source, processor, reading, output)
    if max_questions is None and has_uncounted_pages(dataset):
        raise ValueError(f"Pages to evaluate on must be counted, as in `{source}:400`, or --max-questions given.")
    asked = islice(questions(samples_of(dataset)), max_questions)
    answers = list(
        answer_questions(
            model,
            processor,
            asked,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            progress=sys.stderr.isatty(),
        )
    )
    if not answers:
        raise ValueError(_NOTHING_TO_ASK.format(source))
    names = list(dict.fromkeys(["exact", *metric])) if metric else None
    scores = score_buckets(answers, names)
    total = scores["all"]["all"]
    others = [name for name in total.metrics if name != "exact"]
    rows = [["split", "bucket", "questions", "exact match", "95 % interval", "by pages", *others, "character errors"]]
    for split, found in scores.items():
        for label, score in found.items():
            by_page = score.metrics["exact"]
            numbers = [str(score.count), f"{score.exact_match:.1%}", f"{score.low:.1%} to {score.high:.1%}"]
            numbers.append("one page" if by_page.low is None else f"{by_page.low:.1%} to {by_page.high:.1%}")
            numbers += [f"{score.metrics[name].value:.1%}" for name in others]
            rows.append([split, label, *numbers, f"{score.character_error_rate:.1%}"])
    say(f"{total.count} questions about {total.pages} pages; {total.empty} empty answers")
    print_table(rows)
    if output is None:
        return
    now = datetime.now(UTC).isoformat(timespec="seconds")
    told: dict[str, Any] = {"checkpoint": checkpoint, "data": source, "date": now, "scores": as_json(scores)}
    if prune is not None:
        told["prune"] = read_prune(prune)
    lines = [json.dumps({**dataclasses.asdict(answer), "exact": answer.exact}) for answer in answers]
    contents = {"answers.jsonl": "\n".join(lines), "evaluation.json": json.dumps(told, indent=2)}
    for name, text in contents.items():
        with written_file(output / name, inputs=inputs) as partial:
            partial.write_text(text + "\n", encoding="utf-8")
    if plots and _can_plot():
        from fila.training.plots import plot_accuracy

        for number, (split, found) in enumerate((name, found) for name, found in scores.items() if name != "all"):
            plot_accuracy({Path(checkpoint).name: found}, output / f"accuracy_{number + 1}.png", xlabel=split)
    typer.echo(output)


@app.command()
@one_line_errors
def pages(
    output: Annotated[Path, typer.Argument(help="Folder that gets images/ and pages.jsonl.")],
    split: Annotated[
        str | None, typer.Option(help="Whose fonts, words and layouts: train (if not given), varied or test.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many pages.")] = 100,
    first_seed: Annotated[int, typer.Option(min=0, help="Seed of the first page.")] = 0,
    dense: Annotated[
        bool, typer.Option("--dense", help="Pages full of text, without questions: to warm towers up.")
    ] = False,
    num_questions: Annotated[int, typer.Option("--questions", min=1, help="Questions per page, at most.")] = 6,
    read: Annotated[int, typer.Option(min=0, help="Also ask to read so many fields from the top; 0: do not.")] = 0,
    pdf: Annotated[
        list[Path] | None, typer.Option(help="Cut pieces out of this PDF instead; can be repeated. Needs pypdfium2.")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Whose canvas the text is measured on; the built-in model's if not given.")
    ] = None,
    fonts: Annotated[
        Path | None, typer.Option(help="Folder of the font files, filled from PyPI; without it Pillow's own font.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    debug: Debug = False,
) -> None:
    """Generate pages with small print, and questions about them.

    The command prints the path of the file that `fila train` and `fila evaluate` read.
    """
    # by its module: without torchvision older transformers gives a stand-in that refuses everything
    from transformers.models.auto.image_processing_auto import AutoImageProcessor

    from fila.cli.demo import bundled_files
    from fila.cli.library_messages import quiet
    from fila.training.page_files import write_pages
    from fila.training.page_fonts import DEFAULT_FACES, obtain_faces

    of_made = {"--split": split, "--dense": dense, "--read": read, "--fonts": fonts}
    if pdf and (given := [name for name, value in of_made.items() if value]):
        raise ValueError(f"--pdf cuts pieces out of documents; {given} are for pages that are made.")
    split = split or "train"
    with quiet(), bundled_files() as assets:
        image_processor = AutoImageProcessor.from_pretrained(checkpoint or assets / "default_model")
    faces = obtain_faces(fonts, split) if fonts else DEFAULT_FACES
    path = write_pages(
        output,
        split,
        count,
        image_processor,
        faces=faces,
        first_seed=first_seed,
        dense=dense,
        num_questions=num_questions,
        read=read,
        pdfs=pdf or (),
        workers=workers,
        progress=sys.stderr.isatty(),
    )
    typer.echo(path)


def _can_plot() -> bool:
    if find_spec("matplotlib") is None:
        say("no plots: matplotlib is not installed (`pip install matplotlib`)")
        return False
    return True


def _evaluation_callback(trainer: "FilaTrainer", dataset: Any, every: int, count: int) -> "GenerativeEvalCallback":
    from itertools import islice

    from fila.training.data import questions, samples_of
    from fila.training.evaluation_callback import GenerativeEvalCallback

    asked = list(islice(questions(samples_of(dataset)), count))
    if not asked:
        raise ValueError(_NOTHING_TO_ASK.format("--eval-data"))
    return GenerativeEvalCallback(trainer, asked, every=every)
