# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""`fila read`, and pages of documents in the other commands."""

import json
import os
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

from fila.training.answer_files import MARKDOWN, open_answers
from fila.training.document_pages import DocumentPages
from tests.helpers import random_image
from tests.processing.pdfs import LOCK, bar, pdf_bytes
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


@pytest.fixture
def pdf(tmp_path: Path) -> str:
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf_bytes([bar(number / 12) for number in range(12)]))
    return str(path)


@pytest.mark.parametrize("form", ["md", "json"])
def test_killed_and_resumed_writes_what_an_undisturbed_run_writes(
    fila: Callable[..., Any], checkpoint: str, pdf: str, tmp_path: Path, form: str
) -> None:
    words = ["read", pdf, "--checkpoint", checkpoint, "--max-new-tokens", "8", "--format", form, "--confidence", "-o"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen([sys.executable, "-m", "fila", *words, str(killed)], env=environment)
    while not (killed.is_file() and killed.stat().st_size):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    result = fila(*words, whole)
    assert result.exit_code == 0, result.stderr
    content = whole.read_bytes()
    assert content.startswith(killed.read_bytes()[:20])
    for end in (killed.stat().st_size, len(content) // 2, len(content) - 1):
        killed.write_bytes(content[:end])
        assert fila(*words, killed).exit_code == 0
        assert killed.read_bytes() == content


def test_every_page_has_a_record_and_an_error_stops_nothing(
    fila: Callable[..., Any], checkpoint: str, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "b.pdf").write_bytes(pdf_bytes([bar(0), bar(1)]))
    (folder / "a.pdf").write_bytes(pdf_bytes([bar(0)], trailer=LOCK))
    (folder / "c.pdf").write_bytes(pdf_bytes([]))
    random_image(9, 8).save(folder / "d.tiff", save_all=True, append_images=[random_image(7, 9)])
    random_image(20, 24).save(folder / "e.png")
    (folder / "notes.txt").write_text("not read")
    out = tmp_path / "out.jsonl"
    words = ["read", folder, "--checkpoint", checkpoint, "--max-new-tokens", 3, "-o", out]
    result = fila(*words, "--prompt", "What?", "--prompt", "Who?")
    assert result.exit_code == 2
    assert "10 answers and 4 errors" in result.stderr
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    places = [(Path(line["file"]).name, line["page"], line["question"]) for line in lines]
    pages = [("a.pdf", 1), ("b.pdf", 1), ("b.pdf", 2), ("c.pdf", 1), ("d.tiff", 1), ("d.tiff", 2), ("e.png", 1)]
    assert places == [(*page, question) for page in pages for question in ("What?", "Who?")]
    errors = {Path(line["file"]).name: line["error"] for line in lines if "error" in line}
    assert "a.pdf) is a PDF that is encrypted" in errors["a.pdf"]
    assert "c.pdf) is a PDF of 0 pages" in errors["c.pdf"]
    assert len(errors) == 2
    result = fila(*words, "--prompt", "Else?", "--prompt", "Who?")
    assert "must hold answers to the same questions" in result.stderr


def test_records_stream_to_standard_output(fila: Callable[..., Any], checkpoint: str, pdf: str) -> None:
    words = ("--checkpoint", checkpoint, "--max-new-tokens", 2)
    result = fila("read", f"{pdf}#page=3", *words, "--format", "json")
    assert result.exit_code == 0, result.stderr
    (line,) = map(json.loads, result.stdout.splitlines())
    assert (line["id"], line["page"]) == (f"{pdf}#page=3", 3)
    assert f"## {pdf}#page=3\n" in fila("read", f"{pdf}#page=3", *words).stdout
    assert "comes twice" in fila("read", pdf, pdf, *words).stderr
    assert "must be one of" in fila("read", pdf, *words, "--format", "html").stderr


def test_markdown_holds_any_answer_and_refuses_other_files(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    lines: list[dict[str, Any]] = [
        {"id": "a -->.pdf", "question": "Q -->", "answer": '<!-- {"id": "x"} -->\n\n## b\n\n', "tokens": 3},
        {"id": "b", "question": None, "error": "no"},
    ]
    content = b"".join(map(MARKDOWN.written, lines))
    for end in range(len(content) + 1):
        path.write_bytes(content[:end])
        with open_answers(path, MARKDOWN) as (_, done):
            pass
        assert list(done) == ["a -->.pdf", "b"][: len(done)]
        assert content.startswith(path.read_bytes())
    assert done == {"a -->.pdf": "Q -->", "b": None}
    path.write_text("# My notes\n")
    with (
        pytest.raises(ValueError, match=r"Record 1 of .*a\.md is no answer of an earlier run"),
        open_answers(path, MARKDOWN),
    ):
        pass
    assert path.read_text() == "# My notes\n"


def test_pages_are_images_of_the_other_commands(
    fila: Callable[..., Any], checkpoint: str, pdf: str, tmp_path: Path
) -> None:
    page = f"{pdf}#page=2"
    asked = fila("ask", checkpoint, page, "Why?", "--max-new-tokens", 2, "--confidence")
    assert asked.exit_code == 0, asked.stderr
    assert "in the whole answer, " in asked.stderr
    size = next(line for line in asked.stderr.splitlines() if line.startswith("image: ")).rpartition(", ")[2]
    planned = fila("plan", page, "--checkpoint", checkpoint)
    assert size == planned.stdout.splitlines()[1].split()[1].replace("x", " x ") + " pixels"
    assert fila("view", page, "-o", tmp_path / "view.png", "--checkpoint", checkpoint).exit_code == 0
    unsure = fila("ask", checkpoint, page, "Why?", "--max-new-tokens", 2, "--min-confidence", 1)
    assert unsure.stdout == "not sure\n"
    assert "the answer would be: " in unsure.stderr
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"image": "a.pdf#page=3", "question": "What?", "answer": "x"}) + "\n")
    out = tmp_path / "scores"
    found = fila("evaluate", checkpoint, "--data", rows, "-o", out, "--max-new-tokens", 2, "--no-plots")
    assert found.exit_code == 0, found.stderr
    (line,) = map(json.loads, (out / "answers.jsonl").read_text().splitlines())
    assert 0 <= line["confidence"] <= 1
    assert line["images"] == [str(tmp_path / "a.pdf#page=3")]
    told = fila("ask", "--checkpoint", checkpoint, "--data", rows, "-o", tmp_path / "o", "--min-confidence", 1)
    assert told.exit_code == 0, told.stderr
    assert json.loads((tmp_path / "o").read_text())["not_sure"] is True


def test_a_data_set_of_pages_needs_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must hold PDFs or images"):
        DocumentPages([tmp_path], ["?"])
    with pytest.raises(ValueError, match="There must be a prompt"):
        DocumentPages([tmp_path / "a.png"], [])


def test_several_questions_about_a_page_come_together(read: Callable[..., Any], tmp_path: Path) -> None:
    write_pages(tmp_path / "a.tif", 1)
    prompts = [word for question in QUESTIONS for word in ("--prompt", question)]
    result = read("a.tif", *prompts, "-o", "out.md")
    assert result.exit_code == 0, result.stderr
    text = (tmp_path / "out.md").read_text(encoding="utf-8")
    answers = {question: answer for _, question, answer in asked()}
    assert [*re.findall(r"^## .*\n\n(.*)\n", text, re.MULTILINE)] == [answers[question] for question in QUESTIONS]


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
