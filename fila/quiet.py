# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Keeps other libraries' progress bars out of the command line's own report."""

from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging


@contextmanager
def quiet() -> Iterator[None]:
    """Switch transformers' progress bars off for a while."""
    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()
