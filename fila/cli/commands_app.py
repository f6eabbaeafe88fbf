# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The command `fila app`."""

import socket
import time
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from fila.cli.common import Debug, Dtype, Prune, Trust, app, one_line_errors, read_prune, say

HERE = "127.0.0.1"


@app.command("app")
@one_line_errors
def app_command(
    checkpoint: Annotated[
        str | None, typer.Argument(help="Folder or Hub id; the model that comes with fila if not given.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 7860,
    host: Annotated[
        str, typer.Option(help="Address to listen on; with another one, others can use the model and upload files.")
    ] = HERE,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 256,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps, ...")] = "auto",
    dtype: Dtype = "auto",
    prune: Prune = None,
    trust_remote_code: Trust = False,
    debug: Debug = False,
) -> None:
    """Open a page for the browser that asks a checkpoint about images and documents.

    It shows the answer while it is written, where the model looked, what the towers saw, the tokens and the cost. It
    listens on this machine alone and sends nothing elsewhere. Ctrl-C ends it. Needs the extra `app`.
    """
    if find_spec("gradio") is None:
        raise ValueError("`fila app` needs Gradio. Install it: `pip install gradio pypdfium2`.")
    started = time.perf_counter()
    with socket.socket() as probe:
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ValueError(f"Cannot listen on {host}:{port}: {error.strerror}. Choose another --port.") from error
        port = probe.getsockname()[1]
    from fila.cli.ask import load_checkpoint
    from fila.cli.demo import bundled_files
    from fila.cli.library_messages import quiet
    from fila.cli.web import Desk, make_page, make_server
    from fila.training.data import open_data, questions

    with ExitStack() as stack:
        assets = stack.enter_context(bundled_files())
        with quiet():
            model, processor = load_checkpoint(
                checkpoint or str(assets / "default_model"), device=device, dtype=dtype, prune=read_prune(prune)
            )
        name = "The model that comes with fila" if checkpoint is None else Path(checkpoint).name
        pages = list(questions(open_data(assets / "demo_pages" / "pages.jsonl")))
        first = {str(each.images[0]): each for each in reversed(pages)}
        examples = [(path, str(each.messages[-1]["content"][-1]["text"])) for path, each in sorted(first.items())]
        desk = Desk(model, processor, name, max_new_tokens=max_new_tokens)
        server = make_server(make_page(desk, examples), host, port, assets / "demo_pages")
        if host != HERE:
            say(f"warning: everyone who reaches {host}:{port} can use the model and upload files")
        say(f"ready after {time.perf_counter() - started:.1f} s; Ctrl-C ends it")
        typer.echo(f"http://{host}:{port}")
        import uvicorn

        uvicorn.run(server, host=host, port=port, log_level="warning")
