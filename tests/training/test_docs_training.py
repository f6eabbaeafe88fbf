# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The code of docs/training.md runs, as it stands there, on a tiny checkpoint; its commands and options exist."""

import re
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from typer.main import get_command

from fila.cli import app
from fila.training.arguments import FilaTrainingArguments
from fila.training.checkpoints import missing_files
from fila.training.stages import STAGES
from tests.helpers import tiny_model, tiny_processor
from tests.training.samples import make_samples, write_json_lines

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(autouse=True)
def _data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_model().bfloat16().save_pretrained(tmp_path / "my-checkpoint")
    tiny_processor().save_pretrained(tmp_path / "my-checkpoint")
    path = write_json_lines(tmp_path, make_samples(3))
    for name in ("my-data.jsonl", "my-test.jsonl"):
        (tmp_path / name).write_text(path.read_text())
    data = datasets.Dataset.from_list(make_samples(3)).cast_column("images", datasets.List(datasets.Image()))
    data.save_to_disk(tmp_path / "my-dataset")
    monkeypatch.chdir(tmp_path)


def run(code: str, names: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a block; what only keeps the test's output clean is set from outside."""
    from transformers import TrainingArguments

    original = TrainingArguments.__post_init__

    def quiet(self: Any) -> None:
        self.report_to, self.disable_tqdm, self.dataloader_pin_memory = "none", True, False
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingArguments, "__post_init__", quiet)
        exec(code, names)
    return names["trainer"]


def test_there_are_the_blocks_that_are_tested() -> None:
    assert len(BLOCKS) >= 3
    assert ["Trainer(" in BLOCKS[0], "SFTTrainer(" in BLOCKS[1], "FilaTrainer(" in BLOCKS[2]] == [True] * 3
    assert max(len(re.findall(r"^\w", block, re.MULTILINE)) for block in BLOCKS[:2]) <= 11  # statements


@pytest.mark.parametrize("number", [0, 1], ids=["transformers", "trl"])
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")  # TRL 1.16, see there
def test_block_trains(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = run(BLOCKS[number], {}, monkeypatch)
    assert trainer.state.epoch == 3
    assert {parameter.dtype for parameter in trainer.model.parameters()} == {torch.float32}
    assert missing_files(Path("my-run") / f"checkpoint-{trainer.state.max_steps}") == []


def test_block_of_our_trainer_trains_and_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"model": tiny_model(), "processor": tiny_processor()}
    trainer = run(BLOCKS[2], names, monkeypatch)
    assert trainer.state.epoch == 3
    assert "eval_exact_match" in {key for entry in trainer.state.log_history for key in entry}


def test_commands_have_the_options_that_are_written() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    lines = [line for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    lines = [line for line in lines if line.startswith("fila ")]
    assert len(lines) >= 5
    for line in lines:
        _, name, *words = shlex.split(line, comments=True)
        known = {option for parameter in commands[name].params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= known, line
    known = {option for parameter in commands["train"].params for option in parameter.opts}
    assert set(re.findall(r"`(--[\w-]+)", PAGE)) <= known


def test_tables_name_arguments_and_stages() -> None:
    first_cells = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    names = {name for cell in first_cells for name in re.findall(r"`(\w+)", cell)}
    arguments = {field.name for field in fields(FilaTrainingArguments)}
    assert names - {"argument", "FilaTrainingArguments"} <= arguments | set(STAGES)
    for stage in STAGES.values():
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{stage.name}` |"))
        assert float(re.findall(r"\d+e-\d+", row)[0]) == stage.arguments["learning_rate"]
        assert f"`{stage.image_processor['canvas']['type']}`" in row
