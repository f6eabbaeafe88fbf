# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from fila import signals
from fila.cli import launcher

SCRIPT = """
import json, sys
import neighbour
from transformers import AutoConfig
print(json.dumps([__name__, sys.argv[1:], AutoConfig.for_model("fila").model_type, neighbour.VALUE]))
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that needs fila and another file beside it; what a start changes is put back."""
    (tmp_path / "neighbour.py").write_text("VALUE = 7\n", encoding="utf-8")
    path = tmp_path / "needs_fila.py"
    path.write_text(SCRIPT, encoding="utf-8")
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "neighbour", raising=False)
    return path


def test_run_starts_a_file_with_its_arguments(fila: Callable[..., Any], program: Path) -> None:
    result = fila("run", "--", program, "--lr", "1", "--", "-h")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == '["__main__", ["--lr", "1", "--", "-h"], "fila", 7]\n'
    assert fila("run", program, "--debug").stdout == '["__main__", ["--debug"], "fila", 7]\n'


def test_run_starts_a_module_of_the_folder(
    fila: Callable[..., Any], program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(program.parent)
    result = fila("run", "--", "-m", "needs_fila", "one")
    assert result.stdout == '["__main__", ["one"], "fila", 7]\n'


def test_run_starts_a_command_of_a_package(
    fila: Callable[..., Any], program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = SimpleNamespace(name="tool", load=lambda: lambda: print(sys.argv) or 3)  # noqa: T201
    monkeypatch.setattr(launcher, "entry_points", lambda group: [entry])
    result = fila("run", "--", "tool", "--port", "1")
    assert result.exit_code == 3
    assert result.stdout.endswith("tool', '--port', '1']\n")
    missing = fila("run", "--", "tols")
    assert missing.exit_code == 2
    assert "has a command 'tols'; is it 'tool'?" in missing.stderr


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (["-m", "no_such.module"], "no module 'no_such.module'"),
        (["-m"], "must be followed by the name of a module"),
        (["absent.py"], "There is no file 'absent.py'"),
    ],
)
def test_run_refuses_what_is_not_there(fila: Callable[..., Any], what: list[str], message: str) -> None:
    result = fila("run", "--", *what)
    assert result.exit_code == 2
    assert message in result.stderr


def test_an_error_of_the_program_is_its_own(fila: Callable[..., Any], program: Path) -> None:
    program.write_text("raise ValueError('of the program')", encoding="utf-8")
    result = fila("run", "--", program)
    assert isinstance(result.exception, ValueError)
    assert "error:" not in result.stderr


def test_launchers_of_processes_start_it_in_each(fila: Callable[..., Any], program: Path) -> None:
    assert launcher.starts_python(["accelerate", "launch", "train.py"])
    assert launcher.starts_python(["torchrun", "train.py"])
    assert not launcher.starts_python(["accelerate", "launch", "-m", "fila", "run", "--", "train.py"])
    assert not launcher.starts_python(["accelerate", "env"])


@pytest.mark.nightly  # two processes, each of which imports everything
def test_accelerate_launches_it(program: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "-m",
        "fila",
        "run",
        "--",
        str(program),
        "-x",
    ]
    process = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"ACCELERATE_USE_CPU": "true"})
    assert process.stdout.splitlines()[-1] == '["__main__", ["-x"], "fila", 7]', process.stderr


def test_the_program_has_pythons_own_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    signals.exit_on_signals()
    signals.restore_signals()
    assert signal.getsignal(signal.SIGTERM) is before


def test_vllm_is_not_started_with_an_adapter_that_it_serves_in_part(
    fila: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = SimpleNamespace(name="vllm", load=lambda: pytest.fail("started"))
    monkeypatch.setattr(launcher, "entry_points", lambda group: [entry])
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    name = "base_model.model.model.multi_modal_projector.linear_1.lora_A.weight"
    save_file({name: torch.zeros(1, 2)}, tmp_path / "adapter_model.safetensors")
    result = fila("run", "--", "vllm", "serve", "checkpoint", "--enable-lora", "--lora-modules", f"mine={tmp_path}")
    assert result.exit_code == 2
    assert f"would leave out the rest; {tmp_path} changes the connector ({name})" in result.stderr


def test_lora_modules_are_found() -> None:
    given = ["vllm", "serve", "x", "--lora-modules", "a=/one", '{"name": "b", "path": "/two"}', "--port", "1"]
    assert launcher.lora_paths(given) == ["/one", "/two"]
    assert launcher.lora_paths(["--lora_modules=a=/one", "b=/two", "--x"]) == ["/one", "/two"]
    assert launcher.lora_paths(["vllm", "serve", "x"]) == []
