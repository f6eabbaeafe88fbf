# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""docs/use.md, "On the command line": every line typed as it stands, in a folder that has the files it names."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from fila.cli import app
from tests.promises.shipped import ROOT, asked, blocks

USE = (ROOT / "docs" / "use.md").read_text(encoding="utf-8")


@pytest.fixture
def fila(folder: Path) -> Callable[[str], Any]:
    """Type a line that begins with `fila` in that folder; it must succeed."""

    def run(line: str, status: int = 0) -> Any:
        name, *words = shlex.split(line, comments=True)
        assert name == "fila"
        result = CliRunner().invoke(app, words, prog_name="fila", catch_exceptions=False)
        assert result.exit_code == status, result.stderr
        return result

    return run


def lines(page: str) -> list[str]:
    """Return the command lines of a page."""
    joined = "\n".join(blocks(page, "console")).replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.startswith("fila ")]


def test_lines_of_the_page_run(fila: Callable[[str], Any]) -> None:
    typed = [line for line in lines("docs/use.md") if line.split()[1] in ("ask", "view", "plan", "read")]
    assert len(typed) == 5
    with Image.open("page.png") as first, Image.open("other.png") as second:
        first.convert("RGB").save("report.pdf", save_all=True, append_images=[second.convert("RGB")])
    found = [fila(line).stdout for line in typed]
    with Image.open("view.png") as picture:
        assert picture.size > (100, 100)
    assert Path("report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert all(found)


def test_plan_prints_the_table_of_the_page(fila: Callable[[str], Any]) -> None:
    (table,) = re.findall(r"^```\n(image .*?)```", USE, re.DOTALL | re.MULTILINE)
    Image.new("RGB", (1700, 2200)).save("page.png")
    assert fila("fila plan page.png 3508x2480").stdout.split() == table.split()


def test_ask_answers_right(fila: Callable[[str], Any]) -> None:
    number, question, answer = asked()[0]
    assert number == 0
    assert fila(f'fila ask my-checkpoint page.png "{question}"').stdout.strip() == answer


def test_ask_takes_several_images(fila: Callable[[str], Any]) -> None:
    assert fila('fila ask my-checkpoint page.png other.png "What is the Total?"').stdout.strip()


def test_verify_proves_the_shipped_model(fila: Callable[[str], Any]) -> None:
    assert "fail" not in fila("fila verify my-checkpoint").stdout


def test_evaluate_scores_the_bundled_pages(fila: Callable[[str], Any]) -> None:
    result = fila("fila evaluate my-checkpoint --data held-out.jsonl --output scores")
    assert "100.0%" in result.stdout
    first, *_ = [json.loads(line) for line in Path("scores/answers.jsonl").read_text().splitlines()]
    assert first["sample"] == 0
    assert [Path(name).name for name in first["images"]] == ["00500002.jpg"]
    told = json.loads(Path("scores/evaluation.json").read_text())
    assert (told["checkpoint"], told["data"]) == ("my-checkpoint", "held-out.jsonl")
    assert {"date", "scores"} <= set(told)


def test_estimate_tells_costs_from_headers(fila: Callable[[str], Any]) -> None:
    assert "fila" in fila("fila estimate page.png").stdout
    assert json.loads(fila("fila estimate page.png --json").stdout)


def test_estimate_tells_what_training_costs(fila: Callable[[str], Any]) -> None:
    told = fila("fila estimate --train --checkpoint my-checkpoint page.png --samples 1000").stdout
    assert "GPUs" in told
    assert "1,000 samples of finetune" in told
    stages = json.loads(fila("fila estimate --train --checkpoint my-checkpoint page.png --json").stdout)
    assert [stage["stage"] for stage in stages] == ["align", "finetune"]


def test_recipes_are_listed_and_shown(fila: Callable[[str], Any]) -> None:
    listed = fila("fila recipes").stdout
    for name in ("llava-hr", "internvl2", "mini-gemini-hd"):
        assert name in listed
        assert json.loads(fila(f"fila recipes {name}").stdout)


def test_demo_reads_the_bundled_pages(fila: Callable[[str], Any]) -> None:
    result = fila("fila demo")
    for _, _, answer in asked():
        assert answer in result.stdout


def test_mistakes_are_one_line_and_status_2(fila: Callable[..., Any]) -> None:
    for line in ("fila ask my-checkpoint missing.png Why?", "fila verify nowhere", "fila plan page.png --canvas x"):
        stderr = fila(line, 2).stderr
        assert "Traceback" not in stderr
        assert stderr.strip()


def test_view_marks_tokens_and_compares(fila: Callable[[str], Any]) -> None:
    assert "token 3:" in fila("fila view page.png --checkpoint my-checkpoint --tokens 3:5").stderr
    fila("fila view page.png --compare --output compare.png")
    assert Path("compare.png").is_file()
