# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The command `run`: programs of other packages that open fila checkpoints, such as `transformers serve`."""

from typing import Annotated

import typer

from fila.cli.common import Debug, app, error_lines, say


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def run(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="-- WHAT [ARGUMENTS]...", help="A command of an installed package, `-m MODULE` or FILE.py."
        ),
    ],
    debug: Debug = False,
) -> None:
    """Run another program in this process, with fila imported.

    For example `fila run -- transformers serve`, `fila run -- -m lm_eval --model hf` or `fila run -- train.py --lr 1`.
    The exit status is the program's own. A launcher of processes starts this command in each of them:
    `accelerate launch -m fila run -- train.py`.
    """
    with error_lines(debug):
        from fila.cli.launcher import check, program, starts_python

        start = program(what)
        if starts_python(what):
            say(
                f"note: {what[0]} starts Python again without fila. If the script does not import fila itself, put "
                "`-m fila run --` in front of the script."
            )
        check(what)
    start()  # its errors are not the command line's: they keep their traceback
