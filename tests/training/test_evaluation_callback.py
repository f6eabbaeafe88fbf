# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
from pathlib import Path
from typing import Any

import pytest

from fila.training.data import questions
from fila.training.evaluation_callback import GenerativeEvalCallback
from fila.training.trainer import FilaTrainer
from tests.helpers import tiny_model, tiny_processor
from tests.training.samples import arguments, losses, make_samples


def run(folder: Path, samples: list[dict[str, Any]], every: int | None, **changes: Any) -> tuple[Any, Any]:
    settings = arguments(folder, learning_rate=1e-2, per_device_train_batch_size=4, **changes)
    trainer = FilaTrainer(tiny_model(), settings, processing_class=tiny_processor(), train_dataset=samples)
    callback = None
    if every is not None:
        callback = GenerativeEvalCallback(trainer, list(questions(samples)), every=every, max_new_tokens=6)
        trainer.add_callback(callback)
    trainer.train()
    return trainer, callback


def test_a_trained_model_is_scored_while_it_trains(tmp_path: Path) -> None:
    trainer, callback = run(tmp_path, make_samples(4), every=24, max_steps=40)
    logged = [entry for entry in trainer.state.log_history if "eval_exact_match" in entry]
    assert [entry["step"] for entry in logged] == [24, 40]
    assert logged[-1]["eval_exact_match"] == 1
    assert logged[-1]["eval_character_error_rate"] == 0
    assert logged[-1]["eval_exact_match/resolution/4 tiles"] == 1
    assert callback.scores["all"]["all"].count == 4


def test_asking_changes_nothing(tmp_path: Path) -> None:
    silent, _ = run(tmp_path, make_samples(4), every=None)
    asking, _ = run(tmp_path, make_samples(4), every=1)
    assert losses(asking) == losses(silent)
    assert len(losses(silent)) == 3
    assert asking.model.training


def test_steps_between_evaluations_must_be_positive() -> None:
    with pytest.raises(ValueError, match="`every` must be a positive number of steps; got 0"):
        GenerativeEvalCallback(None, [], every=0)
