# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Write docs/reference/commands.md: every command of `fila` with its arguments and options.

python docs/make_commands.py docs
"""

import inspect
import sys
from pathlib import Path
from typing import Any

from typer.main import get_command

from fila.cli import app

HEAD = """# The command line

What `fila COMMAND --help` prints; written by `python docs/make_commands.py docs`.
[The index](../index.md#the-command-line) has one line per command.
"""


def cell(text: str) -> str:
    """Return text as a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def row(option: Any) -> str:
    """Return the row of an argument or option."""
    argument = option.param_type_name == "argument"
    names = option.name.upper() if argument else ", ".join([*option.opts, *option.secondary_opts])
    default = option.default if isinstance(option.default, (str, int, float)) and option.default != "" else None
    shown = "required" if option.required else "" if default is None or option.is_flag else f"`{default}`"
    return f"| `{names}` | {shown} | {cell(option.help or '')} |"


def section(name: str, command: Any) -> str:
    """Return the section of a command."""
    text = inspect.cleandoc(command.help or "").replace("\b", "").replace("\f", "")
    rows = [row(option) for option in command.params if not getattr(option, "hidden", False)]
    table = "\n".join(["| | default | |", "|---|---|---|", *rows])
    return f"\n## fila {name}\n\n{text}\n\n{table}\n"


def page() -> str:
    """Return the page."""
    group: Any = get_command(app)
    return HEAD + "".join(section(name, command) for name, command in sorted(group.commands.items()))


if __name__ == "__main__":
    (Path(sys.argv[1]) / "reference" / "commands.md").write_text(page(), encoding="utf-8")
