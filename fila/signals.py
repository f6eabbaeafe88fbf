# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Clean exit of the command line on signals: quietly, after `with` and `finally` blocks have run.

This file imports nothing of its package, so that an entry can load it before anything heavy.
"""

import os
import signal
from types import FrameType
from typing import Any

_replaced: dict[int, Any] = {}  # handlers by number, before `exit_on_signals`


def exit_on_signals() -> None:
    """End this process with status 128 + number on SIGINT, SIGTERM and SIGHUP, unless its caller chose otherwise."""
    owner = os.getpid()

    def leave(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a forked worker has nothing to clean up
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        raise SystemExit(128 + number)

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # Windows lacks the last
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            _replaced[number] = signal.signal(number, leave)


def restore_signals() -> None:
    """Undo `exit_on_signals`, for a program that handles signals itself."""
    while _replaced:
        signal.signal(*_replaced.popitem())
