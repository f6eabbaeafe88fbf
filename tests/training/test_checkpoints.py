# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import shutil
import zipfile
from pathlib import Path

import pytest

from fila.training.checkpoints import last_complete_checkpoint, last_saved_checkpoint, missing_files
from fila.training.trainer import FilaTrainer
from tests.helpers import tiny_model, tiny_processor
from tests.training.samples import arguments, make_samples


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    settings = arguments(folder, max_steps=2, save_strategy="steps", save_steps=1)
    FilaTrainer(tiny_model(), settings, processing_class=tiny_processor(), train_dataset=make_samples(2)).train()
    return folder


def test_what_trainer_saves_is_whole(run: Path) -> None:
    assert missing_files(run / "checkpoint-1") == []
    assert last_complete_checkpoint(run) == run / "checkpoint-2"
    assert last_complete_checkpoint(run / "elsewhere") is None


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "model.safetensors",
        "processor_config.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "modeling_fila.py",
        "processing_fila.py",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state.pth",
        "trainer_state.json",
    ],
)
def test_every_file_is_missed(name: str, run: Path, tmp_path: Path) -> None:
    for step in (1, 2):
        shutil.copytree(run / f"checkpoint-{step}", tmp_path / f"checkpoint-{step}")
    (tmp_path / "checkpoint-2" / name).unlink()
    assert missing_files(tmp_path / "checkpoint-2") == [name]
    assert last_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-1"


def test_without_the_state_it_opens_but_does_not_resume(run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run / "checkpoint-1", tmp_path / "checkpoint-1")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        (folder / name).unlink()
    assert missing_files(folder, resumable=False) == []
    assert missing_files(folder) == ["scheduler.pt", "optimizer.pt", "rng_state.pth"]


def test_shards_and_a_state_that_was_cut_off_are_missed(run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run / "checkpoint-1", tmp_path / "checkpoint-1")
    state = folder / "trainer_state.json"
    state.write_text(state.read_text()[:-20])
    (folder / "model.safetensors").unlink()
    index = '{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}'
    (folder / "model.safetensors.index.json").write_text(index)
    (folder / "model-00001-of-00002.safetensors").touch()
    assert missing_files(folder) == [
        "model-00002-of-00002.safetensors",
        "trainer_state.json (cut off)",
        "model-00001-of-00002.safetensors (cut off)",
    ]


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"]
)
def test_a_file_that_was_cut_off_is_noticed(
    name: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2):
        shutil.copytree(run / f"checkpoint-{step}", tmp_path / f"checkpoint-{step}")
    cut = tmp_path / "checkpoint-2" / name
    cut.write_bytes(cut.read_bytes()[:-9])
    assert missing_files(tmp_path / "checkpoint-2") == [f"{name} (cut off)"]
    told: list[str] = []
    monkeypatch.setattr("fila.training.checkpoints.logger.warning", told.append)
    assert last_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-1"
    assert told == [f"{tmp_path / 'checkpoint-2'} is not whole and is passed over; it lacks ['{name} (cut off)']."]


@pytest.mark.parametrize(
    "names",
    [
        ["pytorch_model_fsdp_0/.metadata", "optimizer_0/.metadata", "scheduler.pt", "rng_state_0.pth"],
        ["latest", "global_step1/zero_pp_rank_0_mp_rank_00_model_states.pt", "config.json", "rng_state_0.pth"],
    ],
    ids=["fsdp", "zero-3"],
)
def test_of_shards_the_state_and_the_optimizer_are_needed(names: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-1"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        zipfile.ZipFile(folder / name, "w").close()  # the form of what torch saves
    assert missing_files(folder) == ["trainer_state.json"]
    assert last_complete_checkpoint(tmp_path) is None
    (folder / "trainer_state.json").write_text('{"global_step": 1}')
    assert last_complete_checkpoint(tmp_path) == folder
    shutil.rmtree(folder / names[1].split("/")[0])
    assert missing_files(folder) == ["optimizer.pt"]
    assert missing_files(folder, resumable=False)  # it does not open


def test_a_checkpoint_is_saved_when_its_state_is_written(run: Path, tmp_path: Path) -> None:
    for step in (1, 2, 3):
        (tmp_path / f"checkpoint-{step}").mkdir()
        shutil.copy(run / "checkpoint-1" / "trainer_state.json", tmp_path / f"checkpoint-{step}")
    (tmp_path / "checkpoint-2" / "trainer_state.json").write_text('{"cut')
    (tmp_path / "checkpoint-3" / "trainer_state.json").unlink()
    assert last_saved_checkpoint(tmp_path) == tmp_path / "checkpoint-1"
    assert last_saved_checkpoint(tmp_path / "elsewhere") is None


def test_checkpoints_are_ordered_by_number(tmp_path: Path, run: Path) -> None:
    for step in (9, 10):
        shutil.copytree(run / "checkpoint-1", tmp_path / f"checkpoint-{step}")
    (tmp_path / "checkpoint-best").mkdir()
    assert last_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
