# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Figures that may only fall: write a lower one here; a higher one needs its reason in the commit."""

import ast
import tokenize
from pathlib import Path

import pytest

from tests.cases import each

ROOT = Path(__file__).resolve().parents[2]
# Lines of code that are neither blank, comment nor docstring.
MOST_LINES = {"modeling": 7450, "processing": 5400, "conversion": 4340, "training": 4225, "fila": 4690}
MOST_LINES_IN_ALL = 29_480  # with those of projects/
# Arguments and results of functions whose type is `Any`, as ruff's ANN401 counts them.
MOST_ANY = 270
# Items that pytest collects; each costs every process of pytest milliseconds. `tests.cases.each` makes one of many.
MOST_ITEMS = 5_900
MARKS = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def sources(room: str) -> list[Path]:
    """List the files of a room; those of fila/ that link to another room are that room's."""
    return [path for path in sorted((ROOT / room).rglob("*.py")) if path.resolve().is_relative_to(ROOT / room)]


def code_lines(path: Path) -> int:
    """Count the lines that are neither blank, comment nor docstring."""
    text = path.read_text(encoding="utf-8")
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
                docstrings.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    lines: set[int] = set()
    with tokenize.open(path) as file:
        for token in tokenize.generate_tokens(file.readline):
            if token.type not in MARKS:
                lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - docstrings)


def is_any(annotation: ast.expr | None) -> bool:
    """Tell whether an annotation is `Any`, or a union with it, which is the same."""
    if isinstance(annotation, ast.BinOp):
        return is_any(annotation.left) or is_any(annotation.right)
    return isinstance(annotation, ast.Name) and annotation.id == "Any"


def count_any(path: Path) -> int:
    """Count arguments and results that are `Any`."""
    found = 0
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = node.args
            arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
            found += sum(is_any(argument.annotation) for argument in arguments if argument is not None)
            found += is_any(node.returns)
    return found


@each("room, most", MOST_LINES.items())
def test_rooms_do_not_grow(room: str, most: int) -> None:
    lines = sum(code_lines(path) for path in sources(room))
    assert lines <= most, f"{room}/ has {lines} lines of code, and may have {most}"


def test_all_rooms_together_do_not_grow() -> None:
    lines = sum(code_lines(path) for room in (*MOST_LINES, "projects") for path in sources(room))
    assert lines <= MOST_LINES_IN_ALL, f"all rooms have {lines} lines of code, and may have {MOST_LINES_IN_ALL}"


def test_signatures_hold_no_more_any() -> None:
    found = sum(count_any(path) for room in MOST_LINES for path in sources(room))
    assert found <= MOST_ANY, f"{found} arguments and results are `Any`, and {MOST_ANY} may be"


def test_no_more_items_are_collected(request: pytest.FixtureRequest) -> None:
    items = len(request.session.items)
    assert items <= MOST_ITEMS, f"pytest collects {items} items, and may collect {MOST_ITEMS}"
