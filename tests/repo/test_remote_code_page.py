# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The table of docs/remote_code.md is what checkpoints carry today."""

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_remote_code_page_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("make_remote_code", DOCS / "make_remote_code.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (DOCS / "remote_code.md").read_text(encoding="utf-8")
    assert module.page(text) == text, "run `python docs/make_remote_code.py docs`"
