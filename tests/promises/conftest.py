# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""A folder as the documentation supposes one: `my-checkpoint` is the shipped model, `page.png` one of its pages."""

import json
from pathlib import Path

import pytest
from PIL import Image

import fila
from tests.integration.test_remote_code import python_without_fila  # noqa: F401  (a fixture)
from tests.promises.shipped import MODEL, PAGES, rows


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change into a folder with `my-checkpoint`, two pages, and training data in our format."""
    monkeypatch.chdir(tmp_path)
    Path("my-checkpoint").symlink_to(MODEL)
    for name, row in zip(("page.png", "other.png"), rows(), strict=True):
        Image.open(PAGES.parent / row["images"][0]).save(name)
    samples = [row | {"images": [str(PAGES.parent / row["images"][0])]} for row in rows()]
    for name in ("my-data.jsonl", "my-test.jsonl", "pairs.jsonl", "held-out.jsonl"):
        Path(name).write_text("\n".join(map(json.dumps, samples)) + "\n")
    assert Path(fila.__file__).parent in MODEL.parents
    return tmp_path
