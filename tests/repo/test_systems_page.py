# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""docs/systems.md and its pictures are what the recipes and processors say today."""

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_systems_page_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("make_systems", DOCS / "make_systems.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    stale = [name for name, text in module.pages().items() if (DOCS / name).read_text(encoding="utf-8") != text]
    assert not stale, f"run `python docs/make_systems.py docs`; stale are {stale}"
