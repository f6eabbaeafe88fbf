# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The commands `fila ask` and `fila demo`."""

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from fila.cli.common import Debug, Dtype, Trust, app, one_line_errors, say


@app.command()
@one_line_errors
def ask(
    checkpoint: Annotated[str, typer.Argument(help="Folder or Hub id.")],
    images_and_question: Annotated[
        list[str], typer.Argument(metavar="IMAGE... QUESTION", help="Image or video files, then the question.")
    ],
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 256,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest token; above 0 samples.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps, ...")] = "auto",
    dtype: Dtype = "auto",
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
    from fila.cli.ask import ask as ask_model
    from fila.cli.ask import load_checkpoint, open_sources
    from fila.cli.library_messages import quiet
    from fila.look.view_settings import check_checkpoint

    check_checkpoint(checkpoint)
    images = open_sources(paths)
    for path, image in zip(paths, images, strict=True):
        say(f"video: {path}" if image == path else f"image: {path}, {image.height} x {image.width} pixels")
    with quiet():
        model, processor = load_checkpoint(checkpoint, device=device, dtype=dtype)
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
    )


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
