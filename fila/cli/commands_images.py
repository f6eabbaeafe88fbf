# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The commands `fila view`, `fila explain`, `fila plan` and `fila estimate`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

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
    say_error,
)

if TYPE_CHECKING:
    from transformers.image_utils import ImageInput

    from fila.look.estimate import Estimate, Estimator
    from fila.look.view_settings import Eyes
    from fila.processing.canvas_plan import Size


Told = TypeVar("Told")  # a command's result for one image

Checkpoint = Annotated[str | None, typer.Option(help="Take the settings of this checkpoint: folder or Hub id.")]
# --checkpoint overrides these four.
Canvas = Annotated[
    str, typer.Option(help="Canvas strategy, without --checkpoint: name, or JSON object with `type` and options.")
]
Layout = Annotated[
    str, typer.Option(help="Prompt layout, without --checkpoint: name, or JSON object with `type` and fields.")
]
Tile = Annotated[int, typer.Option(help="Pixels per side of one tile, without --checkpoint.")]
Patch = Annotated[
    int, typer.Option(help="Pixels per side of one patch, without --checkpoint; each becomes an image token.")
]


@app.command()
@one_line_errors
def view(
    image: Annotated[str, typer.Argument(help="Image or video file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG to write.")] = Path("view.png"),
    checkpoint: Checkpoint = None,
    canvas: Canvas = "fila",
    layout: Layout = "fila",
    tile: Tile = 336,
    patch: Patch = 14,
    high_res: Annotated[bool, typer.Option(help="Whether there is a high-res canvas, without --checkpoint.")] = True,
    tokens: Annotated[
        str | None,
        typer.Option(help="Mark image tokens and the pixels that they show: 137, or 100:140, which ends before 140."),
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Draw every canvas strategy instead of one.")] = False,
    page: Annotated[
        Path | None,
        typer.Option("--html", help="HTML page to write of every canvas strategy; a PNG then needs --compare."),
    ] = None,
    prune: Prune = None,
    trust_remote_code: Trust = False,
    debug: Debug = False,
) -> None:
    """Draw what a model sees of an image or a video.

    The picture of an image shows the canvas with its tiles and padding, the overview, the high-res canvas and the
    image tokens. The picture of a video is a contact sheet of the sampled frames.
    """
    from fila.cli.ask import is_video, open_images
    from fila.conversion.output import refuse_inputs, written_file
    from fila.look.frame_sheet import draw_frame_sheet, see_frames
    from fila.look.processed_image import look
    from fila.look.view import draw_view
    from fila.look.view_settings import open_eyes, open_video_eyes
    from fila.processing.image_source import split_frame

    chosen = _token_range(tokens)
    inputs = [split_frame(image)[0], checkpoint]
    for path in filter(None, (output, page)):
        refuse_inputs(path, inputs, is_new_file=not path.exists())  # before any work
    if is_video(image):
        frames, captions = see_frames(open_video_eyes(checkpoint, tile=tile), image)
        note = f"{len(frames)} frames" + ("" if checkpoint is None else f", {Path(checkpoint).name}")
        drawn = draw_frame_sheet(frames, captions, title=Path(image).name, note=note)
        with written_file(output, inputs=inputs) as partial:
            drawn.save(partial, format="PNG", optimize=True)
        say(", ".join(captions))
        typer.echo(output)
        return
    eyes = open_eyes(
        checkpoint,
        canvas=read_options(canvas),
        layout=read_options(layout),
        tile=tile,
        patch=patch,
        high_res=high_res,
        prune=read_prune(prune),
    )
    (picture,) = open_images([image], eyes.processor)
    if compare or page is not None:
        if chosen:
            raise ValueError("`--tokens` marks tokens of one strategy; it does not go with `--compare` or `--html`.")
        _compare(eyes, picture, inputs, output if compare else None, page)
        return
    seen = look(eyes, picture)
    drawn = draw_view(seen, title=Path(image).name, subtitle=eyes.name, tokens=chosen)
    with written_file(output, inputs=inputs) as partial:
        drawn.save(partial, format="PNG", optimize=True)
    rows, cols = seen.plan.tile_grid
    of_all = f" of {seen.num_tokens + len(seen.left_out):,}" if seen.left_out else ""
    say(f"{rows} x {cols} tiles, {seen.plan.num_views} views, {seen.num_tokens:,}{of_all} image tokens")
    for token in chosen:
        say(seen.tell(token))
    typer.echo(output)


@app.command()
@one_line_errors
def explain(
    image: Annotated[str, typer.Argument(help="Image file, or a page such as `report.pdf#page=3`.")],
    question: Annotated[str, typer.Argument(help="Question about it.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG to write.")] = Path("map.png"),
    checkpoint: Annotated[
        str | None, typer.Option(help="Folder or Hub id; the model that comes with fila if not given.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="attention (to the image tokens) or gradient (of the pixels, high-res canvas too).")
    ] = "attention",
    answer: Annotated[
        str | None, typer.Option(help="The answer to explain; the checkpoint's own if not given.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 256,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print answer and hottest parts as JSON instead of the answer.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps, ...")] = "auto",
    dtype: Dtype = "auto",
    prune: Prune = None,
    trust_remote_code: Trust = False,
    debug: Debug = False,
) -> None:
    """Draw where on a page an answer comes from: a heat-map over the image.

    The answer goes to standard output, the hottest parts and the path of the picture to standard error. With --json
    standard output has the answer and the parts, in pixels and from 0 to 999: left, top, right, bottom.
    """
    from contextlib import nullcontext

    from fila.cli.ask import is_video, load_checkpoint, open_images
    from fila.cli.demo import bundled_files
    from fila.cli.library_messages import quiet
    from fila.conversion.output import refuse_inputs, written_file
    from fila.look.explain import METHODS, ExplainError
    from fila.look.explain import explain as explain_answer
    from fila.look.view_settings import check_checkpoint
    from fila.processing.image_source import split_frame

    if method not in METHODS:
        raise ExplainError(f"`--method` must be one of {[*METHODS]}; got {method!r}.")
    if is_video(image):
        raise ExplainError(f"`fila explain` draws over one image; {image!r} is a video. Give one of its frames.")
    inputs = [split_frame(image)[0], checkpoint]
    refuse_inputs(output, inputs, is_new_file=not output.exists())  # before any work
    if checkpoint is not None:
        check_checkpoint(checkpoint)
    with bundled_files() if checkpoint is None else nullcontext(Path()) as assets, quiet():
        name = checkpoint or str(assets / "default_model")
        model, processor = load_checkpoint(name, device=device, dtype=dtype, prune=read_prune(prune))
    (page,) = open_images([image], processor)
    found = explain_answer(
        model, processor, page, question, answer=answer, method=method, max_new_tokens=max_new_tokens
    )
    with written_file(output, inputs=inputs) as partial:
        found.picture(Path(image).name).save(partial, format="PNG", optimize=True)
    for part in found.boxes(3):
        top, left, bottom, right = part.box
        say(f"{part.share:.0%} of the heat in pixels {top}, {left} to {bottom}, {right}")
    say(str(output))
    typer.echo(json.dumps(found.told(), ensure_ascii=False) if as_json else found.answer)


def _compare(eyes: "Eyes", picture: "ImageInput", inputs: list[Any], sheet: Path | None, page: Path | None) -> None:
    """Write the contact sheet, the page, or both."""
    from fila.conversion.output import written_file
    from fila.look.contact_sheet import draw_contact_sheet, look_with_all
    from fila.look.report import make_report

    compared, named = look_with_all(eyes, picture), {"title": Path(inputs[0]).name, "subtitle": eyes.name}
    if sheet is not None:
        with written_file(sheet, inputs=inputs) as partial:
            draw_contact_sheet(compared, **named).save(partial, format="PNG", optimize=True)
        typer.echo(sheet)
    if page is not None:
        with written_file(page, inputs=inputs) as partial:
            partial.write_text(make_report(compared, **named), "utf-8")
        typer.echo(page)


def _token_range(text: str | None) -> range:
    """Read `137`, or `100:140`.

    Example:
        >>> _token_range("100:140")
        range(100, 140)
        >>> _token_range("137")
        range(137, 138)
    """
    if text is None:
        return range(0)
    first, colon, end = text.partition(":")
    if not first.isdigit() or (colon and not end.isdigit()) or (colon and int(end) <= int(first)):
        raise ValueError(f"`--tokens` must be a number such as 137, or a range such as 100:140; got {text!r}.")
    return range(int(first), int(end) if colon else int(first) + 1)


@app.command()
@one_line_errors
def plan(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE|HEIGHTxWIDTH...", help="Image files or sizes.")],
    checkpoint: Checkpoint = None,
    canvas: Canvas = "fila",
    layout: Layout = "fila",
    tile: Tile = 336,
    patch: Patch = 14,
    prune: Prune = None,
    trust_remote_code: Trust = False,
    debug: Debug = False,
) -> None:
    """Print the tiles and tokens of images.

    Only the headers of files are read. Sizes are height x width, such as 3508x2480. The settings are those of
    --checkpoint, or else the options. Each image is planned as the only one in its prompt. If a limit of image tokens
    shrinks an image, the row shows the shrunk image. With --prune pixelprune the pixels decide, and the tokens are
    the most that the image may have. Errors of single images go to standard error; the exit status is then 2.
    """
    from fila.look.view_settings import open_eyes
    from fila.processing.image_size import read_size

    eyes = open_eyes(
        checkpoint,
        canvas=read_options(canvas),
        layout=read_options(layout),
        tile=tile,
        patch=patch,
        prune=read_prune(prune),
    )
    most = "at most " if eyes.at_most else ""

    def told(number: int, source: str) -> tuple[list[str], int]:
        size = read_size(source, number, eyes.image_processor.page_size)
        planned = eyes.plan(eyes.fitted(size, number))
        tokens = eyes.num_tokens(planned)
        sizes = [size, planned.tile_grid, planned.canvas_size, planned.content_box.size]
        row = [source, *("x".join(map(str, pair)) for pair in sizes), str(planned.num_views), f"{most}{tokens}"]
        return row, tokens

    found = _of_each(images, told, debug)
    rows = [["image", "size", "tiles", "canvas", "content", "views", "tokens"], *(row for row, _ in found)]
    if len(images) > 1:
        name = "total" if len(found) == len(images) else f"total of {len(found)} of {len(images)}"
        rows.append([name, "", "", "", "", "", f"{most}{sum(tokens for _, tokens in found)}"])
    if found:
        print_table(rows)
    if len(found) < len(images):
        raise typer.Exit(2)


def _of_each(images: list[str], tell: Callable[[int, str], Told], debug: bool) -> list[Told]:
    """Return the results of all usable images; write the error of any other image to standard error."""
    found = []
    for number, source in enumerate(images):
        try:
            found.append(tell(number, source))
        except (ValueError, OSError) as error:
            if debug:
                raise
            say_error(error, "" if source in str(error) else f"{source}: ")
    return found


def _print_training_costs(
    estimator: "Estimator", sizes: "list[Size]", text_tokens: int, samples: int | None, tflops: float, as_json: bool
) -> None:
    from fila.look import training_cost

    costs = training_cost.stage_costs(estimator.config, estimator.processor, sizes, text_tokens)
    if as_json:
        typer.echo(training_cost.as_json(costs))
        return
    counts = {cost.stage: samples or training_cost.SAMPLES[cost.stage] for cost in costs}
    typer.echo("one sample, computed in bfloat16 with activation checkpointing:")
    print_table(training_cost.as_rows(costs))
    told = " and ".join(f"{count:,} samples of {stage}" for stage, count in counts.items())
    typer.echo(f"\nFSDP2, one sample at a time on each GPU; {told} at {tflops:g} TFLOP/s for each GPU:")
    print_table(training_cost.gpu_rows(costs, counts, tflops))


@app.command()
@one_line_errors
def estimate(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE|HEIGHTxWIDTH...", help="Image files or sizes.")],
    checkpoint: Annotated[
        str | None,
        typer.Option(help="Of this checkpoint: folder or Hub id; a model of FILA's own sizes if not given."),
    ] = None,
    model: Annotated[str | None, typer.Option(hidden=True, help="What --checkpoint was called.")] = None,
    train: Annotated[bool, typer.Option("--train", help="Print the cost of training on such images instead.")] = False,
    text_tokens: Annotated[int, typer.Option(min=1, help="With --train: tokens of text in a sample.")] = 256,
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="With --train: samples of each stage; if not given, as many as LLaVA-1.5's stages."),
    ] = None,
    tflops: Annotated[
        float,
        typer.Option(
            min=1, help="With --train: 10^12 operations per second that a GPU sustains; 400 is 40 % of an H100."
        ),
    ] = 400,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    prune: Prune = None,
    trust_remote_code: Trust = False,
    debug: Debug = False,
) -> None:
    """Print the cost of images under every canvas strategy, or of training on them.

    Only the headers of files are read. The table has tiles, image tokens, operations of the encoder and of the
    language model reading the image tokens, and the bytes of their keys and values. The model's own strategy comes
    first. With --train it has memory, operations and days of both training stages, by number of GPUs.
    """
    from fila.cli.library_messages import quiet
    from fila.look.estimate import Estimator, as_rows
    from fila.look.estimate import as_json as to_json
    from fila.processing.image_size import read_size

    if model is not None and checkpoint is not None:
        raise ValueError("--model is the old name of --checkpoint; give --checkpoint alone.")
    with quiet():
        estimator = Estimator(checkpoint or model, read_prune(prune))
    page_size = estimator.processor.image_processor.page_size
    if train:
        sizes = _of_each(images, lambda number, source: read_size(source, number, page_size), debug)
        if sizes:
            _print_training_costs(estimator, sizes, text_tokens, samples, tflops, as_json)
        if len(sizes) < len(images):
            raise typer.Exit(2)
        return

    def of_all(number: int, source: str) -> "list[Estimate]":
        return estimator.all_canvases(source, read_size(source, number, page_size))

    found = _of_each(images, of_all, debug)
    made = [each for canvases in found for each in canvases]
    if as_json:
        typer.echo(to_json(made))
    elif made:
        print_table(as_rows(made))
    if len(found) < len(images):
        raise typer.Exit(2)
