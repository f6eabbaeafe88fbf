# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Start of another program in this process, as Python would start it, but after the import of fila."""

import difflib
import importlib.util
import json
import os
import runpy
import sys
import sysconfig
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

from fila.signals import restore_signals

# commands that start Python processes of their own, which do not import fila
_STARTERS = {("accelerate", "launch"), ("torchrun",), ("deepspeed",)}


def program(what: list[str]) -> Callable[[], None]:
    """Return the start of a program, which is found now and runs when it is called.

    Args:
        what: Name of a console script, `-m` and a module, or the path of a Python file; then the program's arguments.

    Raises:
        ValueError: If there is no such program.
    """
    name, *arguments = what
    if name == "-m":
        if not arguments:
            raise ValueError("`-m` must be followed by the name of a module.")
        module, *arguments = arguments
        sys.path.insert(0, os.getcwd())
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:  # its package
            found = None
        finally:
            sys.path.pop(0)
        if found is None:
            raise ValueError(f"There is no module {module!r} in this environment or in this folder.")
        return lambda: _start(
            lambda: runpy.run_module(module, run_name="__main__", alter_sys=True), module, arguments, os.getcwd()
        )
    file = Path(name)
    if file.suffix == ".py" or len(file.parts) > 1:
        if not file.is_file():
            raise ValueError(f"There is no file {name!r}.")
        return lambda: _start(
            lambda: runpy.run_path(name, run_name="__main__"), name, arguments, str(file.resolve().parent)
        )
    scripts = {entry.name: entry for entry in reversed(tuple(entry_points(group="console_scripts")))}
    if name not in scripts:
        close = difflib.get_close_matches(name, scripts, n=1)
        meant = f"; is it {close[0]!r}?" if close else "."
        raise ValueError(
            f"No package in this environment has a command {name!r}{meant} A module is run with `-m NAME`, a file by "
            "its path, which ends in .py."
        )
    folder = sysconfig.get_path("scripts")
    return lambda: _start(lambda: sys.exit(scripts[name].load()()), str(Path(folder) / name), arguments, folder)


def _start(run: Callable[[], object], name: str, arguments: list[str], folder: str) -> None:
    """Run a program with the arguments, the first import path and the signals that Python would give it."""
    sys.argv = [name, *arguments]
    if not sys.flags.safe_path:
        sys.path[0] = folder
    restore_signals()
    run()


def starts_python(what: list[str]) -> bool:
    """Return whether a program starts Python processes that do not import fila."""
    known = any(tuple(what[: len(command)]) == command for command in _STARTERS)
    return known and "fila" not in what


def check(what: list[str]) -> None:
    """Check what the arguments of a known program say, before the program starts.

    Raises:
        ValueError: If vLLM would serve an adapter otherwise than it was trained, see `check_text_adapter`.
    """
    program = what[1] if what[0] == "-m" else what[0]
    if program.partition(".")[0] != "vllm":
        return
    from fila.conversion.adapter import check_text_adapter

    for path in lora_paths(what):
        if Path(path).is_dir():  # a Hub id is fetched by vLLM
            check_text_adapter(path)


def lora_paths(arguments: list[str]) -> list[str]:
    """Return the folders or Hub ids of `--lora-modules`: `NAME=PATH`, or a JSON object with `path`."""
    values: list[str] = []
    taken = False
    for argument in arguments:
        if argument.startswith("--"):
            option, _, value = argument.partition("=")
            taken = option.replace("_", "-") == "--lora-modules"
            values += [value] if taken and value else []
        elif taken:
            values.append(argument)
    found = []
    for value in values:
        if value.lstrip().startswith(("{", "[")):
            entries = json.loads(value)
            found += [str(entry["path"]) for entry in (entries if isinstance(entries, list) else [entries])]
        else:
            found.append(value.partition("=")[2])
    return found
