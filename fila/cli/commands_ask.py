# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The commands `fila ask`, `fila read` and `fila demo`."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from fila.cli.common import Debug, Dtype, Prune, Trust, app, one_line_errors, read_prune, say
from fila.cli.data_options import (
    BadRows,
    Boxes,
    Columns,
    ImageFolder,
    ImagePosition,
    LeadingAnswer,
    MaxBad,
    MissingImage,
    data_inputs,
    open_listed,
    read_data_options,
)

PROMPT = "Write down all text of this page, in reading order."
Confidence = Annotated[bool, typer.Option("--confidence", help="Tell the probability of each answer.")]
MinConfidence = Annotated[
    float,
    typer.Option(min=0, max=1, help='Say "not sure" of an answer of less probability, and tell it beside that.'),
]


@app.command()
@one_line_errors
def ask(
    checkpoint: Annotated[str | None, typer.Argument(help="Folder or Hub id.", show_default=False)] = None,
    images_and_question: Annotated[
        list[str] | None,
        typer.Argument(metavar="IMAGE... QUESTION", help="Image or video files, then the question."),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 256,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest token; above 0 samples.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    data: Annotated[
        str | None,
        typer.Option(help="Ask all questions of this data instead, in the forms of `fila evaluate`.", metavar="DATA"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="JSON-lines file for the answers to --data; goes on if there."),
    ] = None,
    shard: Annotated[
        str, typer.Option(metavar="I/N", help="Ask rows I, I + N, ... of --data, counted from 0; for N processes.")
    ] = "0/1",
    batch_size: Annotated[int, typer.Option(min=1, help="Questions of --data at once.")] = 8,
    image_folder: ImageFolder = None,
    columns: Columns = None,
    bad_rows: BadRows = "error",
    max_bad: MaxBad = "1%",
    image_position: ImagePosition = "as_written",
    missing_image: MissingImage = "error",
    leading_answer: LeadingAnswer = "error",
    boxes: Boxes = None,
    confidence: Confidence = False,
    min_confidence: MinConfidence = 0.0,
    named: Annotated[
        str | None, typer.Option("--checkpoint", help="The checkpoint, where it is not the first argument.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps, ...")] = "auto",
    dtype: Dtype = "auto",
    prune: Prune = None,
    trust_remote_code: Trust = False,
    debug: Debug = False,
) -> None:
    """Ask a checkpoint about images and videos, or all questions of a data set.

    The answer streams to standard output; everything else goes to standard error. With --data the answers are lines of
    --output, and a run that was killed goes on where it stopped.
    """
    if named is not None and checkpoint is not None:
        if data is not None:
            raise ValueError(f"The checkpoint is given twice, as {checkpoint!r} and as --checkpoint {named!r}.")
        images_and_question = [checkpoint, *(images_and_question or [])]
    checkpoint = named or checkpoint
    if checkpoint is None:
        raise ValueError(
            "`fila ask` needs a checkpoint, an image and a question, or --checkpoint, --data and --output."
        )
    if data is not None or output is not None:
        if data is None or output is None or images_and_question or temperature:
            raise ValueError(
                "--data and --output go together, without images, a question or a temperature; the data has the "
                "questions, and answers are greedy."
            )
        reading = read_data_options(
            image_folder, columns, bad_rows, max_bad, image_position, missing_image, leading_answer, boxes, False
        )
        sure = (confidence, min_confidence)
        _ask_data(checkpoint, data, reading, output, shard, batch_size, max_new_tokens, device, dtype, prune, sure)
        return
    *paths, question = images_and_question or [""]
    if not paths:
        raise ValueError(f"`fila ask` needs an image and a question after the checkpoint; got only {question!r}.")
    started = time.perf_counter()
    from fila.cli.ask import ask as ask_model
    from fila.cli.ask import is_video, load_checkpoint, open_images, open_sources
    from fila.cli.library_messages import quiet
    from fila.look.view_settings import check_checkpoint

    check_checkpoint(checkpoint)
    images = open_sources(paths)
    with quiet():
        model, processor = load_checkpoint(checkpoint, device=device, dtype=dtype, prune=read_prune(prune))
    images = [image if is_video(image) else open_images([image], processor)[0] for image in images]
    for path, image in zip(paths, images, strict=True):
        say(f"video: {path}" if image == path else f"image: {path}, {image.height} x {image.width} pixels")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    say(
        f"model: {checkpoint}, {parameters / 1e6:.1f} M parameters in {str(model.dtype).removeprefix('torch.')} on "
        f"{model.device}; loaded in {time.perf_counter() - started:.1f} s"
    )
    ask_model(
        model,
        processor,
        images,
        question,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        say=say,
        confidence=confidence,
        min_confidence=min_confidence,
    )


def _ask_data(
    checkpoint: str,
    data: str,
    reading: dict[str, Any],
    output: Path,
    shard: str,
    batch_size: int,
    max_new_tokens: int,
    device: str,
    dtype: str,
    prune: str | None,
    sure: tuple[bool, float],
) -> None:
    """Ask all questions of a data set and append the answers to a file."""
    from fila.cli.ask import load_checkpoint
    from fila.cli.library_messages import quiet
    from fila.conversion.output import refuse_inputs
    from fila.training.answering import Answerer
    from fila.training.bulk import BulkAsker, ask_all, read_shard
    from fila.training.data import has_uncounted_pages

    part = read_shard(shard)
    refuse_inputs(output, [checkpoint, *data_inputs(data, reading)], is_new_file=not output.exists())
    started = time.perf_counter()
    with quiet():
        model, processor = load_checkpoint(checkpoint, device=device, dtype=dtype, prune=read_prune(prune))
    dataset = open_listed(data, processor, reading, output.parent)
    if has_uncounted_pages(dataset):
        raise ValueError(f"Pages to ask about must be counted, as in `{data}:400`.")
    say(f"model: {checkpoint}; loaded in {time.perf_counter() - started:.1f} s")
    answerer = Answerer(model, processor, max_new_tokens, stop_repetition=True, confidence=any(sure))
    asker = BulkAsker(answerer, dataset, Path(data).name, batch_size=batch_size, min_confidence=sure[1])
    started = time.perf_counter()
    counts = ask_all(asker, output, shard=part, progress=sys.stderr.isatty())
    say(
        f"{counts.answered} answers and {counts.failed} errors in {time.perf_counter() - started:.1f} s; "
        f"{counts.found} were in {output} before"
    )
    typer.echo(output)


@app.command()
@one_line_errors
def read(
    files: Annotated[
        list[str],
        typer.Argument(help="PDFs, TIFF files, images, and folders of them; `report.pdf#page=3` is one page."),
    ],
    checkpoint: Annotated[str, typer.Option(help="Folder or Hub id.")],
    prompt: Annotated[
        list[str] | None, typer.Option(help=f"What to ask about each page; can be repeated. If not given: {PROMPT}")
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="md or json; if not given, what the output's name says, or md.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File for the records; goes on if there. If not given: standard output."),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 2048,
    batch_size: Annotated[int, typer.Option(min=1, help="Pages at once.")] = 1,
    confidence: Confidence = False,
    min_confidence: MinConfidence = 0.0,
    prune: Prune = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps, ...")] = "auto",
    dtype: Dtype = "auto",
    trust_remote_code: Trust = False,
    debug: Debug = False,
) -> None:
    """Read every page of documents with a checkpoint.

    The records come in the order of files and pages, one for each page and prompt. A page that cannot be read has a
    record of its error, and the others are read; the exit status is then 2. With --output a run that was killed goes
    on where it stopped, and writes the file that an undisturbed run writes.
    """
    from fila.cli.ask import load_checkpoint
    from fila.cli.library_messages import quiet
    from fila.conversion.output import refuse_inputs
    from fila.look.view_settings import check_checkpoint
    from fila.training.answer_files import JSON_LINES, MARKDOWN, AnswerForm
    from fila.training.answering import Answerer
    from fila.training.bulk import BulkAsker, ask_all
    from fila.training.document_pages import DocumentPages

    forms: dict[str, AnswerForm] = {"md": MARKDOWN, "json": JSON_LINES}
    if form is None:
        form = "json" if output is not None and output.suffix.lower() in (".json", ".jsonl") else "md"
    if form not in forms:
        raise ValueError(f"`--format` must be one of {[*forms]}; got {form!r}.")
    check_checkpoint(checkpoint)
    pages = DocumentPages(files, prompt or [PROMPT])
    if output is not None:
        refuse_inputs(output, [checkpoint, *pages.paths], is_new_file=not output.exists())
    started = time.perf_counter()
    with quiet():
        model, processor = load_checkpoint(checkpoint, device=device, dtype=dtype, prune=read_prune(prune))
    say(f"model: {checkpoint}; loaded in {time.perf_counter() - started:.1f} s; {len(pages)} pages")
    answerer = Answerer(
        model, processor, max_new_tokens, stop_repetition=True, confidence=confidence or min_confidence > 0
    )
    asker = BulkAsker(
        answerer,
        pages,
        "the files",
        batch_size=batch_size * len(pages.prompts),
        in_order=True,
        min_confidence=min_confidence,
    )
    started = time.perf_counter()
    counts = ask_all(asker, output, progress=sys.stderr.isatty(), form=forms[form], unit=" pages")
    found = f"; {counts.found} were in {output} before" if output is not None else ""
    say(f"{counts.answered} answers and {counts.failed} errors in {time.perf_counter() - started:.1f} s{found}")
    if output is not None:
        typer.echo(output)
    if counts.failed:
        raise typer.Exit(2)


@app.command()
@one_line_errors
def demo(
    cache: Annotated[Path | None, typer.Option(help="Folder for the picture.", show_default="~/.cache/fila")] = None,
    debug: Debug = False,
) -> None:
    """Let the model that comes with fila read small print.

    It answers about bundled pages, each question twice: with the high-res tower's features and without.
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    from fila.cli.demo import run_demo

    run_demo(cache or Path(home) / "fila", show=typer.echo, say=say)
