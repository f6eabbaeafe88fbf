# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Functions that only the `fila` package has, not a checkpoint's code: addresses, caches, masks for training."""

import importlib
from types import ModuleType


class NeedsFilaError(ImportError):
    """A requested function needs the `fila` package, which is not installed."""


def from_fila(module: str, what: str) -> ModuleType:
    """Import a module of the `fila` package, by name: an import statement would ask every user for the package.

    Args:
        module: Its name inside `fila`.
        what: The function that needs it, the subject of the error's sentence.

    Raises:
        NeedsFilaError: If the package is not installed.
    """
    try:
        importlib.import_module("fila.processing")
    except ModuleNotFoundError as error:
        raise NeedsFilaError(
            f"{what} needs the `fila` package, which the code beside a checkpoint does not replace. Install it."
        ) from error
    return importlib.import_module(f"fila.{module}")
