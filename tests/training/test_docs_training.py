# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The code of docs/training.md runs, as it stands there, on a tiny checkpoint; the options that it names exist."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from transformers import AutoProcessor
from typer.main import get_command

from fila.cli import app
from fila.training.arguments import FilaTrainingArguments
from fila.training.checkpoints import missing_files
from fila.training.stages import STAGES
from tests.helpers import tiny_model, tiny_processor
from tests.training.samples import make_samples, write_json_lines

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def _data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = tiny_model().bfloat16(), tiny_processor()
    model.config.preprocessing = processor.preprocessing()
    model.save_pretrained(tmp_path / "my-checkpoint")
    processor.save_pretrained(tmp_path / "my-checkpoint")
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
    assert max(len(re.findall(r"^\w", block, re.MULTILINE)) for block in BLOCKS[:2]) <= 12  # statements


@pytest.mark.usefixtures("_data")
@pytest.mark.parametrize("number", [0, 1], ids=["transformers", "trl"])
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")  # TRL 1.16, see there
def test_block_trains(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    load = 'AutoProcessor.from_pretrained("my-checkpoint"'
    assert load in BLOCKS[number]
    trainer = run(BLOCKS[number].replace(load, f'{load}, canvas={{"type": "single"}}'), {}, monkeypatch)
    assert trainer.state.epoch == 3
    assert {parameter.dtype for parameter in trainer.model.parameters()} == {torch.float32}
    saved = Path("my-run") / f"checkpoint-{trainer.state.max_steps}"
    assert missing_files(saved) == []
    assert AutoProcessor.from_pretrained(saved).image_processor.canvas == {"type": "single"}


@pytest.mark.usefixtures("_data")
def test_block_of_our_trainer_trains_and_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"model": tiny_model(), "processor": tiny_processor()}
    trainer = run(BLOCKS[2], names, monkeypatch)
    assert trainer.state.epoch == 3
    assert "eval_exact_match" in {key for entry in trainer.state.log_history for key in entry}


def test_options_in_the_text_exist() -> None:
    known = {option for parameter in get_command(app).commands["train"].params for option in parameter.opts}  # type: ignore[attr-defined]
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
