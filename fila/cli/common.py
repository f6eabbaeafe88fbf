# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The `fila` command.

Answers, tables and paths go to standard output; progress and errors go to standard error. An error is one line. The
exit status is 2 if the user can correct the error, else 1; `--debug` shows the traceback instead. Nothing heavy is
imported before a command runs: the modules of the command line import late, and `fila_cli` defers the package's own
imports.
"""

import contextlib
import functools
import json
import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any

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

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Dtype = Annotated[
    str,
    typer.Option(help="auto (the checkpoint's, but float32 for float16 on a CPU), float32, bfloat16 or float16."),
]
Prune = Annotated[
    str | None,
    typer.Option(
        help='Leave out image tokens: pixelprune, or \'{"type": "visionzip", "dominant": 54, "contextual": 10}\'.',
        metavar="PRUNING",
    ),
]
# `one_line_errors` reads this before the command runs.
Trust = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code",
        help="Run code in the checkpoint that is not this package's, such as parts that nobody registered.",
    ),
]


def say(line: str) -> None:
    """Write a line to standard error."""
    typer.echo(line, err=True)


def say_error(error: Exception, where: str = "") -> None:
    """Write an error to standard error, in one line."""
    say(f"error: {where}{' '.join(str(error).split()) or type(error).__name__}")


# ImportError: only some commands need the missing package
_TOLD: tuple[type[Exception], ...] = (ValueError, OSError, RuntimeError, ImportError)


def one_line_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turn errors into one line unless `debug` is set: status 2 if a user can cause them, 1 if not."""

    @functools.wraps(command)
    def wrapped(**kwargs: object) -> None:
        with error_lines(bool(kwargs["debug"])):
            # `fila ask` takes the checkpoint as an option too; its first argument is an image then
            checkpoint = kwargs.get("named") or kwargs.get("checkpoint")
            if kwargs.get("trust_remote_code") and checkpoint is not None:
                from fila.conversion.own_parts import load_parts

                load_parts(str(checkpoint), trust_remote_code=True)
            command(**kwargs)

    return wrapped


@contextlib.contextmanager
def error_lines(debug: bool) -> Iterator[None]:
    """Import the package; turn errors into one line unless `debug`: status 2 if a user can cause them, 1 if not."""
    try:
        _run_package()
        yield
    except typer.Exit:  # a RuntimeError too
        raise
    except Exception as error:
        from huggingface_hub.errors import StrictDataclassError  # a wrong type in a config
        from safetensors import SafetensorError

        if debug:
            raise
        if isinstance(error, (*_TOLD, StrictDataclassError, SafetensorError)) or type(error) is Exception:
            say_error(error)  # tokenizers raises plain `Exception`
            raise typer.Exit(2) from error
        told, name = " ".join(str(error).split()), type(error).__name__
        say(f"error: unexpected {name}{told and f': {told}'} (--debug shows where)")
        raise typer.Exit(1) from error


def _run_package() -> None:
    """Run the package's `__init__`, which `fila_cli` deferred; it registers the classes."""
    package = sys.modules["fila"]
    if not hasattr(package, "__version__"):
        assert package.__spec__ is not None
        assert package.__spec__.loader is not None
        package.__spec__.loader.exec_module(package)


def read_options(text: str) -> dict[str, Any]:
    """Read `cvfm`, or `{"type": "cvfm", "taps": [2, 6, 12, 20]}`.

    Example:
        >>> read_options("single")
        {'type': 'single'}
    """
    if not text.lstrip().startswith("{"):
        return {"type": text}
    try:
        return dict(json.loads(text))
    except json.JSONDecodeError as error:
        raise ValueError(f"{text!r} is not JSON: {error}.") from error


def read_prune(text: str | None) -> dict[str, Any] | None:
    """Read the option `--prune`; None where it is not given."""
    return None if text is None else read_options(text)


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


def print_table(rows: list[list[str]]) -> None:
    """Print rows in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
