# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The lines and blocks of docs/data.md run, on the rows of tests/training/fixtures."""

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from fila.training.data import Mixture

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
FIXTURES = ROOT / "tests" / "training" / "fixtures"
LINES = [line for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


@pytest.fixture
def _files(checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    Path("my-checkpoint").symlink_to(checkpoint)
    shutil.copytree(FIXTURES / "llava" / "images", "images")
    Path("docvqa").mkdir()
    for source, names in {
        "llava/pretrain.json": ["blip_laion_cc_sbu_558k.json", "captions.json"],
        "llava/mix.json": ["llava_v1_5_mix665k.json", "mix.json", "charts.jsonl"],
        "docvqa/validation.parquet": ["docvqa/validation-0.parquet"],
        "cauldron/data/train-00000-of-00001.parquet": ["train.parquet"],
    }.items():
        for name in names:
            shutil.copy(FIXTURES / source, name)


@pytest.mark.usefixtures("_files")
def test_lines_of_the_page_run(fila: Callable[..., Any]) -> None:
    assert len(LINES) == 4
    for line in LINES:
        _, command, *words = shlex.split(line)
        short = (
            ("--max-steps", 1, "--logging-steps", 1, "--save-steps", 1)
            if command == "train"
            else ("--max-new-tokens", 2)
        )
        result = fila(command, *words, *short, "--device", "cpu", "--no-plots")
        assert result.exit_code == 0, result.stderr
    assert Path("mixed/final/model.safetensors").is_file()
    card = Path("mixed/final/README.md").read_text()
    assert "on `mix.json + captions.json*0.5 + charts.jsonl*2`" in card


@pytest.mark.usefixtures("_files")
def test_blocks_of_the_page_run() -> None:
    opens, maps = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(opens, names)
    assert len(names["data"]) == 6
    assert not isinstance(names["data"], Mixture)
    exec(maps, names)
    assert [len(sample["images"]) for sample in names["samples"]] == [1, 2, 0]


@pytest.mark.usefixtures("_files")
def test_error_of_the_page_is_the_one_that_comes(fila: Callable[..., Any]) -> None:
    rows = json.loads(Path("mix.json").read_text())
    rows[3]["image"] = rows[3]["image"][:1]
    Path("mix.json").write_text(json.dumps(rows))
    result = fila("evaluate", "my-checkpoint", "--data", "mix.json", "--image-folder", "images")
    (told,) = re.findall(r"```text\n(.*?)\n```", PAGE)
    assert result.stderr.splitlines()[-1] == f"error: {told}"
