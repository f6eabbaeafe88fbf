# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Suppression of other libraries' progress bars and warnings on the command line."""

from collections.abc import Iterator
from contextlib import contextmanager
from logging import LogRecord, getLogger

from transformers.utils import logging


@contextmanager
def quiet() -> Iterator[None]:
    """Disable transformers' progress bars in the block."""
    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()


def leave_out_4bit_kernel() -> None:
    """Suppress the warning of bitsandbytes that a CPU kernel for 4-bit weights is missing.

    If they are installed, transformers' Trainer imports peft, which imports bitsandbytes. On a CPU with AVX512-BF16
    the warning would appear in every training run, although nothing is quantised.
    """
    getLogger("bitsandbytes.backends.cpu.ops").addFilter(_is_of_something_else)


def _is_of_something_else(record: LogRecord) -> bool:
    return "Failed to load CPU gemm_4bit_forward" not in record.getMessage()
