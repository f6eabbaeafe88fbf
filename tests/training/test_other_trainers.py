# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Transformers' Trainer, TRL's SFTTrainer and ours with the collator on `datasets`, in memory and streamed."""

from pathlib import Path
from typing import Any

import datasets
import pytest
from transformers import AutoModelForImageTextToText, AutoProcessor, Trainer, TrainingArguments
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from fila.training.arguments import FilaTrainingArguments
from fila.training.collator import FilaCollator
from fila.training.loss_weight import ResolutionWeight
from fila.training.trainer import FilaTrainer
from tests.helpers import random_image, tiny_model, tiny_processor
from tests.training.samples import arguments, conversation, losses, make_samples

# TRL 1.16 sets `gradient_checkpointing`, whose name transformers 5.23 calls old; goes when TRL sets the new one.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* deprecated:FutureWarning")
STEPS = 3
SETTINGS: dict[str, Any] = {
    "max_steps": STEPS,
    "per_device_train_batch_size": 2,
    "learning_rate": 1e-2,
    "logging_steps": 1,
    "save_steps": STEPS,
    "report_to": "none",
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
    "data_seed": 3,
}


def make_dataset(kind: str) -> Any:
    """Six samples with the columns `images` and `messages`."""
    data = datasets.Dataset.from_list(make_samples(6))
    data = data.cast_column("images", datasets.List(datasets.Image()))
    return {"map": lambda: data, "stream": data.to_iterable_dataset, "undecoded": lambda: data.cast_column(
        "images", datasets.List(datasets.Image(decode=False))
    )}[kind]()  # fmt: skip


def train(trainer: Any) -> list[float]:
    trainer.train()
    found = losses(trainer)
    assert len(found) == STEPS
    assert found[-1] < found[0]
    return found


def test_a_trainer_that_takes_columns_away_is_told_what_keeps_them(tmp_path: Path) -> None:
    samples: Any = make_samples(2)  # no dataset of `datasets`, of which Trainer says it itself
    arguments = TrainingArguments(str(tmp_path), **SETTINGS)
    collator = FilaCollator(tiny_processor())
    trainer = Trainer(tiny_model(), arguments, data_collator=collator, train_dataset=samples)
    with pytest.raises(ValueError, match=r"`remove_unused_columns=False`"):
        trainer.train()


def test_our_trainer_refuses_the_processor_of_another_checkpoint(tmp_path: Path) -> None:
    processor = tiny_processor()
    processor.tokenizer.add_tokens(["<new>"])
    with pytest.raises(ValueError, match=r"the tokenizer has ids up to 262, and the model 262 tokens"):
        FilaTrainer(tiny_model(), FilaTrainingArguments(str(tmp_path), report_to="none"), processing_class=processor)


@pytest.mark.parametrize("kind", ["map", "stream", "undecoded"])
def test_trainer_of_transformers(kind: str, tmp_path: Path) -> None:
    processor = tiny_processor()
    trainer = Trainer(
        tiny_model(),
        TrainingArguments(str(tmp_path), remove_unused_columns=False, **SETTINGS),
        data_collator=FilaCollator(processor),
        train_dataset=make_dataset(kind),
        processing_class=processor,
    )
    train(trainer)
    saved = tmp_path / f"checkpoint-{STEPS}"
    assert AutoProcessor.from_pretrained(saved).chat_template == processor.chat_template
    assert type(AutoModelForImageTextToText.from_pretrained(saved)) is type(trainer.model)


def test_trainer_of_transformers_does_not_weight_the_loss(tmp_path: Path) -> None:
    processor = tiny_processor()
    trainer = Trainer(
        tiny_model(),
        TrainingArguments(str(tmp_path), remove_unused_columns=False, **SETTINGS),
        data_collator=FilaCollator(processor, loss_weight=ResolutionWeight()),
        train_dataset=make_dataset("map"),
        processing_class=processor,
    )
    with pytest.raises(ValueError, match="`loss_weight` is for FilaTrainer, which weights the loss"):
        trainer.train()


@pytest.mark.parametrize("kind", ["map", "stream"])
def test_our_trainer(kind: str, tmp_path: Path) -> None:
    arguments = FilaTrainingArguments(str(tmp_path), **SETTINGS)
    train(FilaTrainer(tiny_model(), arguments, processing_class=tiny_processor(), train_dataset=make_dataset(kind)))


@pytest.mark.parametrize("kind", ["map", "stream"])
def test_trainer_of_trl(kind: str, tmp_path: Path) -> None:
    processor = tiny_processor()
    trainer = SFTTrainer(
        tiny_model(),
        args=SFTConfig(str(tmp_path), bf16=False, max_length=None, **SETTINGS),
        data_collator=FilaCollator(processor),
        train_dataset=make_dataset(kind),
        processing_class=processor,
    )
    found = train(trainer)
    if kind == "stream":  # not shuffled, so the same batches as under transformers' Trainer
        plain = Trainer(
            tiny_model(),
            TrainingArguments(str(tmp_path / "plain"), remove_unused_columns=False, **SETTINGS),
            data_collator=FilaCollator(processor),
            train_dataset=make_dataset(kind),
        )
        assert found == pytest.approx(train(plain), rel=1e-5)


def test_trl_trains_with_its_own_collator(tmp_path: Path) -> None:
    """That one learns questions and placeholders too, unless `assistant_only_loss` is set."""
    trainer = SFTTrainer(
        tiny_model(),
        args=SFTConfig(str(tmp_path), bf16=False, max_length=None, **SETTINGS),
        train_dataset=make_dataset("map"),
        processing_class=tiny_processor(),
    )
    train(trainer)


def mixed() -> list[dict[str, Any]]:
    """Samples of several canvases with none, one and two images."""
    sizes: list[list[tuple[int, int]]] = [[(20, 50)], [], [(61, 17), (90, 91)], [(28, 28)]]
    return [conversation([random_image(*size) for size in own], "Which?", "ab" * len(own)) for own in sizes]


@pytest.mark.parametrize("batch_size", [4, pytest.param(1, marks=pytest.mark.nightly)])
def test_trl_trains_with_none_one_and_two_images(batch_size: int, tmp_path: Path) -> None:
    data = datasets.Dataset.from_list(mixed()).cast_column("images", datasets.List(datasets.Image()))
    settings = SETTINGS | {"per_device_train_batch_size": batch_size}
    trainer = SFTTrainer(
        tiny_model(),
        args=SFTConfig(str(tmp_path), bf16=False, max_length=None, **settings),
        train_dataset=data,
        processing_class=tiny_processor(),
    )
    trainer.train()
    assert len(losses(trainer)) == STEPS


def preferences() -> datasets.Dataset:
    rows = [
        {
            "images": sample["images"],
            "prompt": sample["messages"][:1],
            "chosen": [{"role": "assistant", "content": [{"type": "text", "text": "yes"}]}],
            "rejected": [{"role": "assistant", "content": [{"type": "text", "text": "not at all"}]}],
        }
        for sample in mixed()
    ]
    return datasets.Dataset.from_list(rows).cast_column("images", datasets.List(datasets.Image()))


def dpo(folder: Path, **changes: Any) -> Any:
    tiny_model().save_pretrained(folder / "model")  # TRL loads the reference by its name
    return DPOTrainer(
        str(folder / "model"),
        args=DPOConfig(str(folder), bf16=False, **({"max_length": None} | SETTINGS | changes)),
        train_dataset=preferences(),
        processing_class=tiny_processor(),
    )


@pytest.mark.parametrize("batch_size", [4, pytest.param(1, marks=pytest.mark.nightly)])
def test_dpo_trains_with_none_one_and_two_images(batch_size: int, tmp_path: Path) -> None:
    trainer = dpo(tmp_path, per_device_train_batch_size=batch_size)
    trainer.train()
    found = losses(trainer)
    assert found[0] == pytest.approx(0.693147, abs=1e-4)  # log 2: the policy is still the reference
    assert len(found) == STEPS


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_max_length_of_trl_that_cuts_an_image_is_named(kind: str, tmp_path: Path) -> None:
    if kind == "dpo":
        trainer = dpo(tmp_path, max_length=40, per_device_train_batch_size=4)
    else:
        data = datasets.Dataset.from_list(mixed()).cast_column("images", datasets.List(datasets.Image()))
        trainer = SFTTrainer(
            tiny_model(),
            args=SFTConfig(
                str(tmp_path), bf16=False, max_length=40, **(SETTINGS | {"per_device_train_batch_size": 4})
            ),
            train_dataset=data,
            processing_class=tiny_processor(),
        )
    # SFT's call has `max_length`, which transformers checks itself; DPO cuts afterwards, which our model finds
    cut = r"Mismatch in `image` token count.*increase `max_length`|image tokens, but .*The text was cut after"
    with pytest.raises(ValueError, match=cut):
        trainer.train()


@pytest.mark.nightly
def test_compiled_training_has_the_losses_of_plain_training(tmp_path: Path) -> None:
    found = []
    for options in ({}, {"torch_compile": True, "torch_compile_backend": "eager"}):
        settings = arguments(tmp_path, use_cpu=True, learning_rate=1e-2, **options)
        trainer = FilaTrainer(tiny_model(), settings, processing_class=tiny_processor(), train_dataset=make_samples(6))
        trainer.train()
        found.append(losses(trainer))
    assert found[0] == pytest.approx(found[1], rel=1e-4)
