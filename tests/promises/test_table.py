# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""docs/promises.md: every sentence stands on its page, every test exists, every promise test keeps a sentence."""

import ast
import re
from pathlib import Path

import pytest

import fila

ROOT = Path(__file__).parents[2]
SECTIONS = re.split(r"^## ", (ROOT / "docs" / "promises.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
ROWS = [
    (section.partition("\n")[0].strip(), *(cell.strip() for cell in line.strip("|").split(" | ")))
    for section in SECTIONS
    for line in section.splitlines()
    if line.startswith("| ") and "::" in line
]


def words(text: str) -> str:
    """Return text with every run of white space and every emphasis mark made one space or nothing."""
    return re.sub(r"\s+", " ", text.replace("**", ""))


def functions(path: Path) -> set[str]:
    """Return names of the test functions of a file."""
    return {
        node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)
    }


def page_text(name: str) -> str:
    """Return a page's text; those of the package come from where it is installed."""
    package = Path(fila.__file__).parents[1]
    return ((package if name.startswith("fila/") else ROOT) / name).read_text(encoding="utf-8")


def named_tests() -> list[tuple[str, str]]:
    """Return (file, function) of every test that the table names."""
    named = [re.findall(r"`([\w/]+\.py)::(\w+)`", row[-1]) for row in ROWS]
    assert all(named), [row for row, found in zip(ROWS, named, strict=True) if not found]
    return [test for found in named for test in found]


def test_sentences_stand_on_their_pages() -> None:
    assert len(ROWS) > 40
    missing = [(page, sentence) for page, sentence, _ in ROWS if words(sentence) not in words(page_text(page))]
    assert missing == []


def test_tests_exist() -> None:
    missing = [f"{file}::{function}" for file, function in named_tests() if function not in functions(ROOT / file)]
    assert missing == []


def test_no_promise_waits_for_the_night() -> None:
    late = [
        f"{file}::{node.name}"
        for file in sorted({file for file, _ in named_tests()})
        for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and (file, node.name) in named_tests()
        if {"pytest.mark.nightly", "pytest.mark.slow"} & {ast.unparse(mark) for mark in node.decorator_list}
    ]
    assert late == []


@pytest.mark.parametrize("path", sorted(Path(__file__).parent.glob("test_*.py")), ids=lambda path: path.stem)
def test_every_promise_test_keeps_a_sentence(path: Path) -> None:
    if path == Path(__file__):
        return
    kept = {function for file, function in named_tests() if file == f"tests/promises/{path.name}"}
    assert {name for name in functions(path) if name.startswith("test_")} - kept == set()
