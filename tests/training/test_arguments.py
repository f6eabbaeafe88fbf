# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
from pathlib import Path
from typing import Any

import pytest
from transformers import HfArgumentParser, TrainingArguments

from fila.training.arguments import FilaTrainingArguments
from fila.training.stages import STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_defaults_are_the_stages(stage: str, tmp_path: Path) -> None:
    arguments = FilaTrainingArguments(str(tmp_path), stage=stage)
    assert {name: getattr(arguments, name) for name in STAGES[stage].arguments} == STAGES[stage].arguments
    assert arguments.get_warmup_steps(200) == 6
    assert arguments.remove_unused_columns is False
    assert arguments.ddp_find_unused_parameters is False
    assert arguments.accelerator_config.dispatch_batches is False
    assert arguments.loss_weight is None


def test_what_the_user_sets_stays(tmp_path: Path) -> None:
    arguments = FilaTrainingArguments(str(tmp_path), learning_rate=0.5, warmup_steps=0, lr_scheduler_type="constant")
    assert (arguments.learning_rate, arguments.warmup_steps, arguments.lr_scheduler_type) == (0.5, 0, "constant")


def test_without_a_stage_defaults_are_transformers(tmp_path: Path) -> None:
    ours, theirs = FilaTrainingArguments(str(tmp_path), stage=None), TrainingArguments(str(tmp_path))
    for name in ("learning_rate", "warmup_steps", "lr_scheduler_type"):
        assert getattr(ours, name) == getattr(theirs, name)


def test_the_parser_of_transformers_reads_them(tmp_path: Path) -> None:
    words = (
        f"--output_dir {tmp_path} --stage align --random_scale 0.5 1.5 --resolution_loss_weight --loss_weight_max 3"
    )
    (arguments,) = HfArgumentParser(FilaTrainingArguments).parse_args_into_dataclasses(words.split())
    assert arguments.stage == "align"
    assert arguments.random_scale == [0.5, 1.5]
    assert arguments.loss_weight([(1344, 1344)]) == 3


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"stage": "stage1"}, r"must be one of \['align', 'finetune'\]; got 'stage1'"),
        ({"remove_unused_columns": True}, "`remove_unused_columns` must be false; it is true"),
        (
            {"label_smoothing_factor": 0.1},
            r"`label_smoothing_factor` must be 0; got 0\.1\. Trainer would compare each",
        ),
        ({"loss_weight_max": 2.0}, "need `resolution_loss_weight`, which is false"),
        ({"loss_weight_mean_one": True}, "need `resolution_loss_weight`, which is false"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], match: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=match):
        FilaTrainingArguments(str(tmp_path), **changes)
