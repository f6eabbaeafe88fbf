# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""`fila ask --data`, in this process and in one that is killed."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.training.samples import make_samples, write_json_lines


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_json_lines(tmp_path_factory.mktemp("data"), make_samples(24)))


def test_killed_and_resumed_writes_what_an_undisturbed_run_writes(
    fila: Callable[..., Any], checkpoint: str, data: str, tmp_path: Path
) -> None:
    words = ["--checkpoint", checkpoint, "--data", data, "--batch-size", "2", "--max-new-tokens", "24", "-o"]
    killed, whole = tmp_path / "killed.jsonl", tmp_path / "whole.jsonl"
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen([sys.executable, "-m", "fila", "ask", *words, str(killed)], env=environment)
    while not (killed.is_file() and killed.stat().st_size):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    with killed.open("ab") as file:
        file.write(b'{"id": "data.js')  # torn
    left = killed.read_bytes().count(b"\n")
    assert left < 24
    result = fila("ask", *words, killed)
    assert result.exit_code == 0, result.stderr
    assert f"{24 - left} answers and 0 errors in " in result.stderr
    assert f"; {left} were in {killed} before" in result.stderr
    assert result.stdout == f"{killed}\n"
    assert fila("ask", *words, whole).exit_code == 0
    assert killed.read_bytes() == whole.read_bytes()


def test_what_does_not_go_together_is_refused(
    fila: Callable[..., Any], checkpoint: str, data: str, image: str, tmp_path: Path
) -> None:
    for words, told in (
        ((checkpoint, "--data", data), "--data and --output go together"),
        ((checkpoint, image, "Why?", "--data", data, "-o", tmp_path / "a"), "without images"),
        ((checkpoint, "--data", data, "-o", data), "An output must not be an input"),
        ((checkpoint, "--checkpoint", checkpoint, "--data", data, "-o", tmp_path / "a"), "given twice"),
        ((checkpoint, "--data", data, "-o", tmp_path / "a", "--shard", "2/2"), "counted from 0"),
        ((checkpoint, "--data", "pages:test", "-o", tmp_path / "a"), "must be counted"),
        ((), "needs a checkpoint"),
    ):
        result = fila("ask", *words)
        assert result.exit_code == 2, words
        assert told in result.stderr
    assert not (tmp_path / "a").exists()


def test_the_checkpoint_can_be_an_option_beside_an_image(
    fila: Callable[..., Any], checkpoint: str, image: str
) -> None:
    result = fila("ask", "--checkpoint", checkpoint, image, "Why?", "--max-new-tokens", 1, "--trust-remote-code")
    assert result.exit_code == 0, result.stderr
    with Image.open(image) as picture:
        assert f"{picture.height} x {picture.width} pixels" in result.stderr


@pytest.mark.parametrize("page", ["bulk.md", "evaluation.md"])
def test_lines_of_the_page_run(
    page: str, fila: Callable[..., Any], checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).parents[2] / "docs" / page).read_text(encoding="utf-8")
    lines = [line for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    assert len(lines) == 3
    for name in ("my-data", "my-test"):
        write_json_lines(tmp_path, make_samples(3)).rename(tmp_path / f"{name}.jsonl")
    (tmp_path / "my-checkpoint").symlink_to(checkpoint)
    monkeypatch.chdir(tmp_path)
    for line in lines:
        result = fila(*shlex.split(line)[1:])
        assert result.exit_code == 0, result.stderr
    if page == "bulk.md":
        parts = [Path(f"part-{index}.jsonl").read_text().splitlines() for index in range(2)]
        assert sorted(parts[0] + parts[1]) == sorted(Path("answers.jsonl").read_text().splitlines())


def test_questions_without_an_answer_are_asked_of_a_llava_file(
    fila: Callable[..., Any], checkpoint: str, image: str, tmp_path: Path
) -> None:
    """Rows as a test split has them: images in a folder of their own, and nothing to compare with."""
    rows = [{"id": f"r{n}", "image": Path(image).name, "question": "Which?", "answers": None} for n in range(3)]
    (tmp_path / "test.json").write_text(json.dumps(rows))
    words = ("--checkpoint", checkpoint, "--data", tmp_path / "test.json", "--max-new-tokens", 2)
    result = fila("ask", *words, "--image-folder", Path(image).parent, "-o", tmp_path / "answers.jsonl")
    assert result.exit_code == 0, result.stderr
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [answer["question"] for answer in answers] == ["Which?"] * 3
    assert not any("error" in answer for answer in answers)
