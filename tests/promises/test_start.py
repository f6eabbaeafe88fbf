# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""docs/start.md, followed from top to bottom in an empty folder: every block as it stands, and what it says it prints.

Here the training is one step, the result is asked only whether it is complete, and nothing is served; at night
`tests/cli/test_docs_start.py` does all that the page says.
"""

import contextlib
import io
import os
import re
import runpy
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from fila.cli import app
from tests.integration.test_remote_code import catch_uploads
from tests.promises.shipped import ROOT

PAGE = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(python|console|text|json)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
TRAINED = "--max-steps 20 --batch-size 4"


def type_line(line: str) -> str:
    """Type a line of a shell; return what it writes to standard output."""
    name, *words = shlex.split(line)
    if name == "python":
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            runpy.run_path(*words, run_name="__main__")
        return shown.getvalue()
    assert name == "fila"
    result = CliRunner().invoke(app, words, prog_name="fila", catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def shortened(line: str) -> str:
    """Return a line that takes less time: one step of training, no second process that verifies."""
    return re.sub(r"^(fila verify .*)", r"\1 --no-forward", line.replace(TRAINED, "--max-steps 1 --batch-size 1"))


@contextlib.contextmanager
def serving(line: str) -> Iterator[int]:
    """Start the server that a line starts, on a free port."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port: int = free.getsockname()[1]
    name, *words = shlex.split(line.replace("8000", str(port)))
    assert name == "fila"
    process = subprocess.Popen([sys.executable, "-m", "fila", *words], env=os.environ | {"HF_HUB_OFFLINE": "1"})
    try:
        while process.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://localhost:{port}/health"):
                break
            time.sleep(0.2)
        yield port
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def follow(short: bool) -> list[tuple[str, str]]:
    """Follow the page in this folder; return (what it says is printed, what was printed) of each text block."""
    told: list[tuple[str, str]] = []
    printed = ""
    with contextlib.ExitStack() as servers:
        port = 8000
        for language, block in BLOCKS:
            if language == "text":
                told.append((block, printed))
            elif language == "json":
                assert block == Path("held-out.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[0]
            elif named := re.match(r"# (\w+\.py)\n", block):
                Path(named[1]).write_text(block, encoding="utf-8")
            elif "transformers serve" in block:
                if short:
                    break
                port = servers.enter_context(serving(block.strip()))
            elif language == "console":
                lines = block.splitlines()
                if short and "fila train" in block:
                    lines = lines[:1]
                printed = "".join(type_line(shortened(line) if short else line) for line in lines)
            else:
                with contextlib.redirect_stdout(io.StringIO()) as shown:
                    exec(block.replace("localhost:8000", f"localhost:{port}"), {})
                printed = shown.getvalue()
    return told


@pytest.fixture
def _empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    catch_uploads(tmp_path / "hub", monkeypatch)


@pytest.mark.usefixtures("_empty")
def test_page_says_what_happens() -> None:
    assert TRAINED in PAGE
    told = follow(short=True)
    trained = next(number for number, (said, _) in enumerate(told) if "my-run" in said)
    assert [printed for _, printed in told[:trained]] == [said for said, _ in told[:trained]]
    assert told[trained][1] == "my-run/final\n"
    assert {"config.json", "model.safetensors", "modeling_fila.py", "tokenizer.json"} <= set(os.listdir("hub"))
    with Image.open("view.png") as drawn:
        assert drawn.width > 500


def test_picture_of_the_page_is_what_its_command_draws() -> None:
    assert "(images/start_view.png)" in PAGE
    lines: list[Any] = [line for language, block in BLOCKS if language == "console" for line in block.splitlines()]
    assert "fila view page.png --checkpoint my-checkpoint --output view.png" in lines
