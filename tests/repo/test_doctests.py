# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Examples in docstrings give what they say, in one test: pytest's `--doctest-modules` looks through all tests too."""

import doctest
import importlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("modeling", "processing", "conversion", "training", "fila")


def test_examples_in_docstrings_are_right() -> None:
    files = [path for room in ROOMS for path in sorted((ROOT / room).glob("*.py"))]
    with_examples = [path for path in files if ">>> " in path.read_text(encoding="utf-8")]
    assert len(with_examples) >= 20
    tried = 0
    for path in with_examples:
        package = path.parent.name if path.parent.name == "fila" else f"fila.{path.parent.name}"
        found = doctest.testmod(importlib.import_module(f"{package}.{path.stem}"), raise_on_error=False)
        assert found.failed == 0, f"{found.failed} examples of {path.relative_to(ROOT)} fail; see the output"
        tried += found.attempted
    assert tried >= 30
