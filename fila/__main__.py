# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The `fila` command, also as `python -m fila`."""

from fila.signals import exit_on_signals


def main() -> None:
    """Run the command line."""
    exit_on_signals()  # before anything is loaded
    from fila.cli import app

    app(prog_name="fila")


if __name__ == "__main__":
    main()
