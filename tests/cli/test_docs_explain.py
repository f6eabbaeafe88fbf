# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The examples of docs/explain.md run, and its boxes are what it says."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.cli.test_docs import ROOT
from tests.helpers import random_image

PAGE = (ROOT / "docs" / "explain.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("my-checkpoint").symlink_to(checkpoint)
    random_image(53, 97).save("page.png")
    return tmp_path


def test_first_lines_of_the_page_run(folder: Path, fila: Any) -> None:
    block = PAGE.split("```")[1].removeprefix("console\n")
    for line in block.strip().splitlines():
        result = fila(*shlex.split(line)[1:])
        assert result.exit_code == 0, (line, result.stderr)
    with Image.open("map.png") as picture:
        assert min(picture.size) > 500


def test_blocks_of_the_page_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block, names)
    assert names["found"].heat.shape == (53, 97)
    *_, numbers, pixels, shown = capsys.readouterr().out.strip().splitlines()
    assert numbers == "Box999(left=500, top=0, right=999, bottom=500)"
    assert pixels == "Box(top=0, left=50, bottom=25, right=100)"
    assert shown.startswith("Box(")
