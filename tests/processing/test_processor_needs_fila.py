# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""What only the package has is imported by name, and an error says that the package is missing."""

import re
import sys
from pathlib import Path

import pytest

from fila.processing.processor_needs_fila import NeedsFilaError, from_fila

PROCESSING = Path(__file__).parents[2] / "processing"


def test_every_module_that_is_named_is_there() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in PROCESSING.glob("*.py"))
    names = re.findall(r'from_fila\("([\w.]+)"', text)
    assert len(names) >= 3
    assert [from_fila(name, "It").__name__ for name in names] == [f"fila.{name}" for name in names]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fila", None)
    monkeypatch.delitem(sys.modules, "fila.processing")
    with pytest.raises(NeedsFilaError, match="A cache of images needs the `fila` package"):
        from_fila("processing.image_cache", "A cache of images")


def test_another_missing_module_is_not_hidden() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"fila\.processing\.nothing"):
        from_fila("processing.nothing", "It")
