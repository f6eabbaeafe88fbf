# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Every test: offline, seeded, one thread, and with uninitialised memory made visible."""

import gc
import os
from pathlib import Path
from typing import Any
from unittest import mock

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Imports and collection make millions of objects that live to the end: looking for garbage among them, again and
# again, takes a third of a start.
gc.disable()

import hypothesis
import pytest
import torch
import torch._dynamo
from transformers.utils import logging

from tests import goldens

# bitsandbytes wraps its CPU kernels in `torch.compile`, which imports inductor: over a second in each process. Where
# there is no compiler it falls back to the plain kernels. dynamo has read its own settings by now.
with mock.patch.dict(os.environ, TORCHDYNAMO_DISABLE="1"):
    import bitsandbytes  # noqa: F401

torch.set_num_threads(1)
# A deadline per example measures how busy the machine is; the same examples in every run make a failure repeatable.
hypothesis.settings.register_profile("fila", deadline=None, derandomize=True)
hypothesis.settings.load_profile("fila")
logging.disable_progress_bar()

# Memory that nobody wrote reads as NaN, and no test depends on the order of a sum.
torch.use_deterministic_algorithms(True)
torch.utils.deterministic.fill_uninitialized_memory = True


def pytest_collection_finish(session: pytest.Session) -> None:
    """Switch the garbage collector on again, for what the tests make; note which recorded numbers will be read."""
    gc.freeze()
    gc.enable()
    GUARD.collected({Path(item.path) for item in session.items})


class GoldenGuard:
    """Fails a run of all tests of recorded numbers for a file of `FILA_GOLDEN` that none of them read.

    Each process notes what it reads; those of xdist send it to the one that started them.
    """

    def __init__(self) -> None:
        self.is_whole = False
        self.left_out = False
        self.read: set[str] = set()

    def deselected(self, nodeids: list[str]) -> None:
        """Note tests that do not run."""
        self.left_out |= any(map(goldens.is_golden, nodeids))

    def collected(self, files: set[Path]) -> None:
        """Note the test files of which tests run."""
        self.is_whole = not self.left_out and goldens.test_files_of_goldens(Path(__file__).parent) <= files

    def sent(self) -> dict[str, Any]:
        """What this process tells the one that started it."""
        return {"is_whole": self.is_whole, "read": [*self.read, *goldens.files_read()]}

    def received(self, sent: dict[str, Any]) -> None:
        """Add what another process read."""
        self.is_whole |= sent["is_whole"]
        self.read |= set(sent["read"])

    def unread(self) -> list[str]:
        """The files that should have been read."""
        folder = goldens.further_folder()
        if folder is None or not self.is_whole:
            return []
        return goldens.unread_files(self.sent()["read"], folder)


GUARD = GoldenGuard()


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Note which tests of recorded numbers do not run."""
    GUARD.deselected([item.nodeid for item in items])


def pytest_configure(config: pytest.Config) -> None:
    """Collect what the processes of xdist read."""
    if config.pluginmanager.hasplugin("xdist"):
        config.pluginmanager.register(_OfWorkers())


class _OfWorkers:
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        if found := getattr(node, "workeroutput", {}).get("goldens"):
            GUARD.received(found)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send what was read, or fail the run for what was not."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["goldens"] = GUARD.sent()
    elif GUARD.unread() and not (session.shouldstop or session.shouldfail):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name the files that no test read."""
    if unread := GUARD.unread():
        terminalreporter.section("recorded numbers that no test read")
        terminalreporter.write_line(
            f"{len(unread)} files of FILA_GOLDEN: {', '.join(unread)}. Give each a check whose pattern finds it, or "
            "name its system in `NOT_SUPPORTED` of tests/goldens.py."
        )


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
