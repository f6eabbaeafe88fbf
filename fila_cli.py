# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""What the console command `fila` calls. It lies outside of the package, which imports torch and transformers.

`fila --help` and `fila --version` need neither, nor does a misspelt option. So the package is put in place without
running its `__init__`; the modules of the command line are found in it, and a command that starts runs it.
"""

import importlib.util
import sys


def main() -> None:
    """Run the `fila` command."""
    _place_package()
    from fila.signals import exit_on_signals

    exit_on_signals()  # before the slow imports
    from fila.cli import app

    app(prog_name="fila")


def _place_package() -> None:
    """Put the package `fila` where imports look for it, without running it."""
    spec = importlib.util.find_spec("fila")
    assert spec is not None
    sys.modules.setdefault("fila", importlib.util.module_from_spec(spec))


if __name__ == "__main__":
    main()
