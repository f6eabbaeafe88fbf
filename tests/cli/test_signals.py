# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Each process stops itself, so that nothing waits for anything."""

import subprocess
import sys

import pytest

import fila.signals
import fila_cli

LOADED_ALONE = f"""
import importlib.util, os, signal, sys
spec = importlib.util.spec_from_file_location("signals_alone", {fila.signals.__file__!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
"""
STOPPED = """
try:
    os.kill(os.getpid(), {number})
finally:
    print("cleaned up")
print("went on")
"""
IN_A_FORK = """
child = os.fork()
if not child:
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        print("cleaned up", flush=True)
assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM
"""


def _run(*, before: str = "", after: str) -> tuple[int, str, str]:
    script = f"{LOADED_ALONE}\n{before}\nmodule.exit_on_signals()\n{after}"
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    return process.returncode, process.stdout, process.stderr


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_ends_the_process_quietly_and_cleans_up(name: str, status: int) -> None:
    heeded = f"signal.signal(signal.{name}, signal.SIG_DFL)"  # shells start jobs in the background without SIGINT
    stopped = STOPPED.format(number=f"signal.{name}")
    assert _run(before=heeded, after=stopped) == (status, "cleaned up\n", "")


def test_a_signal_that_the_caller_ignores_stays_ignored() -> None:
    """As `nohup` does."""
    ignored = "signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    assert _run(before=ignored, after=STOPPED.format(number="signal.SIGHUP")) == (0, "cleaned up\nwent on\n", "")


def test_a_forked_worker_ends_as_without() -> None:
    assert _run(after=IN_A_FORK) == (0, "", "")


def test_the_command_begins_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr("fila.signals.exit_on_signals", lambda: done.append("signals"))
    monkeypatch.setattr("fila.cli.app", lambda **options: done.append("command"))
    fila_cli.main()
    assert done == ["signals", "command"]
