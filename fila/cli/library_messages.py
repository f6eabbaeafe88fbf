# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Keeps what other libraries show and say out of the command line's own report."""

from collections.abc import Iterator
from contextlib import contextmanager
from logging import LogRecord, getLogger

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


def leave_out_4bit_kernel() -> None:
    """Leave out the warning of bitsandbytes that a kernel for 4-bit weights on the CPU is not there.

    transformers' Trainer imports peft and that imports bitsandbytes, wherever they are installed; on a CPU with
    AVX512-BF16 every training would begin with it, though it quantises nothing.
    """
    getLogger("bitsandbytes.backends.cpu.ops").addFilter(_is_of_something_else)


def _is_of_something_else(record: LogRecord) -> bool:
    return "Failed to load CPU gemm_4bit_forward" not in record.getMessage()
