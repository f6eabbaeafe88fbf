# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
from pathlib import Path
from typing import Any

import pytest

from fila.training.collator import FilaCollator
from fila.training.data import questions
from fila.training.evaluation import answer_questions
from fila.training.trainer import FilaTrainer
from tests.processing.videos import pictures
from tests.real_clip import real_clip
from tests.tiny_videos import VIDEO_TOKEN_ID, video_model, video_processor
from tests.training.samples import arguments, losses

STC = {"type": "stc", "depth": 1, "image_frames": 3}


def sample(part: dict[str, Any], **columns: Any) -> dict[str, Any]:
    question = {"role": "user", "content": [part, {"type": "text", "text": "Who?"}]}
    return {"messages": [question, {"role": "assistant", "content": "A bunny."}], **columns}


def test_trainer_steps_on_a_real_clip(tmp_path: Path) -> None:
    model = video_model(STC)
    samples = [sample({"type": "video", "path": real_clip()}), sample({"type": "video"}, videos=[pictures(3)])]
    trainer = FilaTrainer(
        model,
        arguments(tmp_path, max_steps=3, learning_rate=1e-2, per_device_train_batch_size=2, stage="align"),
        processing_class=video_processor(model),
        train_dataset=samples,
    )
    trainer.train()
    found = losses(trainer)
    assert len(found) == 3
    assert found[-1] < found[0]


def test_questions_about_videos_are_asked() -> None:
    model = video_model(STC)
    samples = [sample({"type": "video"}, videos=[pictures(3)]), sample({"type": "video", "path": real_clip()})]
    samples.append({**samples[0], "fields": [{"question": "Who?", "answer": "A bunny."}]})
    answers = list(answer_questions(model, video_processor(model), list(questions(samples)), max_new_tokens=2))
    assert [answer.reference for answer in answers] == ["A bunny."] * 3
    assert answers[2].prediction == answers[0].prediction != answers[1].prediction


def test_placeholders_of_videos_are_not_learnt() -> None:
    collate = FilaCollator(video_processor(video_model(STC)))
    batch = collate([sample({"type": "video"}, videos=[pictures(4)])])
    assert bool((batch["input_ids"] == VIDEO_TOKEN_ID).any())
    assert not bool((batch["labels"] == VIDEO_TOKEN_ID).any())


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "it has 1 parts and 0 videos"),
        ({"videos": [1, 2]}, "it has 1 parts and 2 videos"),
    ],
)
def test_videos_and_parts_must_be_as_many(columns: dict[str, Any], message: str) -> None:
    collate = FilaCollator(video_processor(video_model(STC)))
    with pytest.raises(ValueError, match=message):
        collate([sample({"type": "video"}, **columns)])
