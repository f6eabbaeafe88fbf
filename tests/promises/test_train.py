# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""docs/assemble.md, "Train it", and the pages on training: their blocks on the shipped model, as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, Trainer, TrainingArguments, trainer_utils

from fila.training.collator import FilaCollator
from fila.training.data import open_data
from tests.promises.shipped import PAGES, answers, asked, blocks, chat, load, page, prepare, rows

# TRL 1.16 and peft 0.21 use transformers' old names of activation checkpointing; goes when they use the new ones.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated:FutureWarning")


def short(code: str) -> str:
    """Shorten a block of the docs: one step."""
    return re.sub(r"num_train_epochs=3", 'max_steps=2, report_to="none", dataloader_pin_memory=False', code)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("number", [0, 1, 2], ids=["transformers", "trl", "fila"])
def test_blocks_of_the_training_page_train(number: int) -> None:
    data = datasets.Dataset.from_list([{key: row[key] for key in ("images", "messages")} for row in rows()])
    absolute = data.map(lambda row: {"images": [str(PAGES.parent / name) for name in row["images"]]})
    absolute.cast_column("images", datasets.List(datasets.Image())).save_to_disk("my-dataset")
    names: dict[str, Any] = {}
    code = blocks("docs/training.md")
    if number == 2:
        names["model"], names["processor"] = load("my-checkpoint", dtype="float32")
    before = load("my-checkpoint", dtype="float32")[0].state_dict()
    exec(short(code[number]), names)
    trained = names["trainer"].model.state_dict()
    assert names["trainer"].state.global_step == 2
    assert any(not torch.equal(trained[name].cpu(), weight) for name, weight in before.items())


def train_plainly(output: str, max_steps: int, **options: Any) -> Trainer:
    """Train the shipped model with transformers' own Trainer."""
    model, processor = load(dtype="float32")
    model.config.preprocessing = processor.preprocessing()
    arguments = TrainingArguments(
        output,
        remove_unused_columns=False,
        max_steps=max_steps,
        per_device_train_batch_size=2,
        save_steps=1,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer = Trainer(
        model,
        arguments,
        data_collator=FilaCollator(processor),
        train_dataset=open_data(PAGES),
        processing_class=processor,
    )
    trainer.train(**options)
    return trainer


def test_plain_trainer_resumes_to_the_same_weights(tmp_path: Path) -> None:
    whole = train_plainly(str(tmp_path / "whole"), 2)
    train_plainly(str(tmp_path / "cut"), 1)
    resumed = train_plainly(str(tmp_path / "cut"), 2, resume_from_checkpoint=True)
    for name, weight in whole.model.state_dict().items():
        # the schedule of one step differs from that of two, so only what a step moves is compared
        torch.testing.assert_close(resumed.model.state_dict()[name], weight, rtol=0, atol=2e-4)
    checkpoint = trainer_utils.get_last_checkpoint(str(tmp_path / "cut"))
    assert checkpoint is not None
    model, processor = load(checkpoint, dtype="float32")
    number, question, _ = asked()[0]
    assert answers(model, processor, prepare(processor, chat(question, page(number))))[0]


def test_train_command_resumes_and_its_result_opens_and_answers(folder: Path) -> None:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}

    def fila(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "fila", *words], env=environment, capture_output=True, text=True, check=True
        )

    settings = ["--data", "my-data.jsonl", "--output", "my-run", "--stage", "finetune", "--batch-size", "2"]
    settings += ["--learning-rate", "1e-6", "--save-steps", "1", "--logging-steps", "1"]
    fila("train", "my-checkpoint", *settings, "--max-steps", "1")
    fila("train", "my-checkpoint", *settings, "--max-steps", "2", "--resume")
    assert Path("my-run/final/README.md").is_file()
    number, question, answer = asked()[0]
    assert number == 0
    assert fila("ask", "my-run/final", "page.png", question).stdout.strip() == answer
    fila("verify", "my-run/final")


def test_lora_block_adapts_what_it_says(folder: Path) -> None:
    code = next(block for block in blocks("docs/training_scale.md") if "audit_lora" in block)
    names: dict[str, Any] = {}
    exec(code, names)
    assert set(names["adapted"]) == {"text", "connector"}
    model, processor = names["model"], AutoProcessor.from_pretrained("my-checkpoint")
    number, question, answer = asked()[0]
    assert answers(model, processor, prepare(processor, chat(question, page(number)))) == [answer]
    merged = model.merge_and_unload()
    assert answers(merged, processor, prepare(processor, chat(question, page(number)))) == [answer]
    assert folder.is_dir()


@pytest.mark.usefixtures("folder")
def test_qlora_block_loads_in_four_bits_and_answers() -> None:
    code = next(block for block in blocks("docs/training_scale.md") if "audit_bnb" in block)
    names: dict[str, Any] = {}
    with torch.compiler.set_stance("force_eager"):
        exec(code, names)
        assert set(names["quantised"]) == {"text"}
        processor = AutoProcessor.from_pretrained("my-checkpoint")
        number, question, _ = asked()[0]
        found = answers(names["model"], processor, prepare(processor, chat(question, page(number))), max_new_tokens=3)
    assert len(found) == 1


@pytest.mark.usefixtures("folder")
def test_four_bit_load_answers() -> None:
    from transformers import AutoConfig

    from fila.training.scopes import bnb_config

    config = AutoConfig.from_pretrained("my-checkpoint")
    with torch.compiler.set_stance("force_eager"):
        model = AutoModelForImageTextToText.from_pretrained(
            "my-checkpoint", quantization_config=bnb_config(config, bits=4)
        )
        processor = AutoProcessor.from_pretrained("my-checkpoint")
        number, question, answer = asked()[1]
        found = answers(model, processor, prepare(processor, chat(question, page(number))))
    # four bits cost the tiny model some characters; what it reads stays near
    assert len(set(found[0]) & set(answer)) >= len(set(answer)) // 2
