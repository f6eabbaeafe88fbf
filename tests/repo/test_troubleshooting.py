# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Each message of docs/troubleshooting.md is raised by the library, or by what it calls of transformers."""

import ast
import inspect
import re
from pathlib import Path

from transformers import processing_utils

from tests.repo.test_generated_pages import script

ROOT = Path(__file__).parents[2]
MESSAGES = script("make_messages")
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


def texts(source: str) -> list[str]:
    """Return the texts of a source file, `...` for what is not known before it runs."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.Constant, ast.JoinedStr))]
    return [text for text in (MESSAGES.said(node, {}) for node in nodes) if " " in text]


def not_in(patterns: list[str], known: list[str]) -> list[str]:
    """Return the patterns that fit no text."""
    return [pattern for pattern in patterns if not any(re.search(pattern, text) for text in known)]


def test_messages_are_those_of_the_source() -> None:
    told = [row.split(" | ")[0].removeprefix("| ") for row in re.findall(r"^\| .* \|$", PAGE, re.MULTILINE)]
    told = [cell for cell in told if cell != "message"]
    assert len(told) >= 30
    patterns = [".*".join(map(re.escape, re.split(r"\s*\.{3,4}\s*", cell))) for cell in told]
    whole = (ROOT / "docs" / "messages.md").read_text(encoding="utf-8").splitlines()
    missing = not_in(patterns, [re.sub(r"\\(.)", r"\1", row).replace("&lt;", "<") for row in whole])
    # a message that is put together in several places stands in pieces there
    for path in [path for room in ("processing", "fila") for path in sorted((ROOT / room).glob("**/*.py"))]:
        if missing and not any(up.is_symlink() for up in path.parents):
            missing = not_in(missing, texts(path.read_text(encoding="utf-8")))
    assert not_in(missing, texts(inspect.getsource(processing_utils))) == []


def test_every_row_says_what_it_means_and_what_to_do() -> None:
    rows = [row.strip("| ").split(" | ") for row in re.findall(r"^\| .* \|$", PAGE, re.MULTILINE)]
    assert {len(row) for row in rows} == {3}
    assert all(len(cell) > 10 for row in rows if row[0] != "message" for cell in row)
