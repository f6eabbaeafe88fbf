# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""`fila read` reads every page of documents, in order, and goes on where it was killed."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.promises.shipped import MODEL, PAGES, asked, page

QUESTIONS = [question for number, question, _ in asked() if number == 0][:2]


def write_pages(path: Path, count: int) -> Path:
    """Write a PDF or TIFF of the bundled pages, in turn."""
    pages = [page(number % 2) for number in range(count)]
    options: dict[str, Any] = {"compression": "raw"} if path.suffix == ".tif" else {"resolution": 200}
    pages[0].save(path, save_all=True, append_images=pages[1:], **options)
    return path


COMMON = ("--checkpoint", str(MODEL), "--max-new-tokens", "16")


@pytest.fixture
def read(fila: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run `fila read` in the test's folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: fila("read", *arguments, *COMMON)


def test_pages_are_read_in_order_and_errors_do_not_stop_it(read: Callable[..., Any], tmp_path: Path) -> None:
    good = write_pages(tmp_path / "b.pdf", 2)
    (tmp_path / "a.pdf").write_bytes(good.read_bytes()[:-600])
    write_pages(tmp_path / "c.tif", 2)
    result = read("a.pdf", "b.pdf#page=1", "c.tif", "--prompt", QUESTIONS[0], "--format", "json")
    assert result.exit_code == 2
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["file"], line["page"]) for line in lines] == [
        ("a.pdf", 1), ("b.pdf", 1), ("c.tif", 1), ("c.tif", 2),
    ]  # fmt: skip
    assert "is a damaged PDF" in lines[0]["error"]
    right = next(answer for _, question, answer in asked() if question == QUESTIONS[0])
    assert lines[2]["answer"] == right
    assert all("answer" in line for line in lines[1:])


def test_several_questions_about_a_page_come_together(read: Callable[..., Any], tmp_path: Path) -> None:
    write_pages(tmp_path / "a.tif", 1)
    prompts = [word for question in QUESTIONS for word in ("--prompt", question)]
    result = read("a.tif", *prompts, "-o", "out.md")
    assert result.exit_code == 0, result.stderr
    text = (tmp_path / "out.md").read_text(encoding="utf-8")
    answers = {question: answer for _, question, answer in asked()}
    assert [*re.findall(r"^## .*\n\n(.*)\n", text, re.MULTILINE)] == [answers[question] for question in QUESTIONS]


@pytest.mark.parametrize("form", ["md", pytest.param("json", marks=pytest.mark.nightly)])
def test_killed_run_goes_on_to_the_same_bytes(form: str, read: Callable[..., Any], tmp_path: Path) -> None:
    write_pages(tmp_path / "a.pdf", 6)
    whole = tmp_path / f"whole.{form}"
    arguments = ["a.pdf", "--prompt", QUESTIONS[0], "--format", form]
    assert read(*arguments, "-o", str(whole)).exit_code == 0
    part = tmp_path / f"part.{form}"
    command = [sys.executable, "-m", "fila", "read", *arguments, *COMMON, "-o", str(part)]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    while not (part.exists() and part.stat().st_size):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = part.read_bytes()
    part.write_bytes(before[:-5])  # as if it had been killed while it wrote
    assert read(*arguments, "-o", str(part)).exit_code == 0
    assert part.read_bytes() == whole.read_bytes()


def test_other_prompts_do_not_go_on(read: Callable[..., Any], tmp_path: Path) -> None:
    write_pages(tmp_path / "a.pdf", 1)
    assert read("a.pdf", "--prompt", QUESTIONS[0], "-o", "out.json").exit_code == 0
    result = read("a.pdf", "--prompt", QUESTIONS[1], "-o", "out.json")
    assert result.exit_code == 2
    assert "Name another output" in result.stderr


def test_output_is_no_input(read: Callable[..., Any], tmp_path: Path) -> None:
    path = write_pages(tmp_path / "a.pdf", 1)
    content = path.read_bytes()
    assert read("a.pdf", "-o", "a.pdf").exit_code == 2
    assert path.read_bytes() == content


def test_ask_says_how_sure_it_is(tmp_path: Path, fila: Callable[..., Any]) -> None:
    picture = tmp_path / "page.png"
    Image.open(PAGES.parent / json.loads(PAGES.read_text().splitlines()[0])["images"][0]).save(picture)
    sure = fila("ask", str(MODEL), str(picture), QUESTIONS[0], "--confidence")
    assert re.search(r"confidence: 0\.9\d+ in the whole answer", sure.stderr)
    unsure = fila("ask", str(MODEL), str(picture), QUESTIONS[0], "--min-confidence", "1")
    assert unsure.stdout.strip() == "not sure"
    assert f"the answer would be: {sure.stdout.strip()!r}" in unsure.stderr
