# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""A progress bar that appears only for files that take long."""

import time
from typing import Any

from transformers.utils import logging

PATIENCE = 3.0  # seconds


class SlowProgress:
    """Progress callback that shows transformers' bar after `PATIENCE` seconds.

    Example:
        `transformers.utils.logging.disable_progress_bar()` hides it.
    """

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.bar: Any = None
        self.what = ""
        self.done = 0

    def __call__(self, what: str, done: int, of: int) -> None:
        """Report the progress of a task."""
        if self.bar is None and time.monotonic() - self.started < PATIENCE:
            return
        if self.what != what:
            self.close()
            self.bar = logging.tqdm(desc=f"{what} frames", total=of or None, leave=False)
            self.what, self.done = what, 0
        self.bar.update(done - self.done)
        self.done = done

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()
