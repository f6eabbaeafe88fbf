# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoProcessor, TrainerCallback, TrainingArguments

from fila.training.collator import FilaCollator
from fila.training.data import GeneratedSamples, Mixture
from fila.training.loss_weight import ResolutionWeight
from fila.training.stages import select_trained
from fila.training.trainer import FilaTrainer
from tests.helpers import assert_close, random_image, tiny_model, tiny_processor
from tests.training.samples import arguments, conversation, losses, make_sample, make_samples

TEXT_ONLY = {"messages": [{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": "No."}]}


class Gradients(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Keeps the gradients of the first step."""

    def __init__(self) -> None:
        self.found: dict[str, torch.Tensor] = {}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if not self.found:
            self.found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def make_trainer(folder: Path, samples: Sequence[dict[str, Any]], **changes: Any) -> tuple[FilaTrainer, Gradients]:
    gradients = Gradients()
    trainer = FilaTrainer(
        tiny_model(),
        arguments(folder, **changes),
        processing_class=tiny_processor(),
        train_dataset=samples,
        callbacks=[gradients],
    )
    return trainer, gradients


def test_loss_falls_to_near_zero_on_a_fixed_set(tmp_path: Path) -> None:
    trainer, _ = make_trainer(
        tmp_path, make_samples(4), max_steps=60, learning_rate=1e-2, per_device_train_batch_size=4
    )
    trainer.train()
    found = losses(trainer)
    assert found[0] > 5
    assert max(found[-5:]) < 0.03  # measured: 0.009


@pytest.mark.parametrize("stage", ["align", "finetune"])
def test_only_the_stages_parameters_move(stage: str, tmp_path: Path) -> None:
    trainer, gradients = make_trainer(tmp_path, make_samples(2), stage=stage, max_steps=2, learning_rate=0.01)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    expected = select_trained(tiny_model(), stage)
    moved = [name for name, p in trainer.model.named_parameters() if not torch.equal(p, before[name])]
    assert moved == list(gradients.found) == expected


def test_without_a_stage_the_parameters_are_those_that_were_free(tmp_path: Path) -> None:
    model = tiny_model().requires_grad_(False)
    model.lm_head.requires_grad_(True)
    FilaTrainer(model, arguments(tmp_path, stage=None), processing_class=tiny_processor())
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["lm_head.weight"]


# --- accumulation ---

MIXED = [
    make_sample(0),
    make_sample(3),
    TEXT_ONLY,
    conversation([random_image(9, 41), random_image(50, 20)], "?", "ab"),
]


@pytest.mark.parametrize(
    "weighting",
    [
        {},
        {"resolution_loss_weight": True, "loss_weight_base": 40},
        {"resolution_loss_weight": True, "loss_weight_base": 40, "loss_weight_mean_one": True},
    ],
    ids=["plain", "weighted", "mean-one"],
)
def test_one_sample_four_times_is_four_samples_once(weighting: dict[str, Any], tmp_path: Path) -> None:
    together, expected = make_trainer(tmp_path, MIXED, max_steps=1, per_device_train_batch_size=4, **weighting)
    apart, found = make_trainer(
        tmp_path, MIXED, max_steps=1, per_device_train_batch_size=1, gradient_accumulation_steps=4, **weighting
    )
    together.train()
    apart.train()
    # measured: 5e-7, the last bit of a loss of 6.2; another CPU rounds more than that
    assert losses(apart) == pytest.approx(losses(together), rel=2e-6)
    assert set(found.found) == set(expected.found) == {name for name, _ in apart.model.named_parameters()}
    for name, gradient in expected.found.items():
        # sums run in another order; measured: 1e-7 on one CPU
        assert_close(found.found[name], gradient, 5e-6 * max(1.0, gradient.abs().max().item()))


def test_gradients_with_checkpointing_are_those_without(tmp_path: Path) -> None:
    known = arguments(tmp_path).to_dict()
    name = next(n for n in ("activation_checkpointing", "gradient_checkpointing") if n in known)
    plain, expected = make_trainer(tmp_path, MIXED, max_steps=1, stage="align")
    checkpointed, found = make_trainer(tmp_path, MIXED, max_steps=1, stage="align", **{name: True})
    plain.train()
    checkpointed.train()
    assert set(found.found) == set(expected.found)
    one, other = (torch.cat([each.found[name].flatten() for name in expected.found]) for each in (found, expected))
    assert_close(one, other)


# --- weights ---


def sample_losses(model: Any, samples: Sequence[dict[str, Any]]) -> list[tuple[float, int]]:
    """Mean loss and number of learnt tokens, sample by sample."""
    collator = FilaCollator(tiny_processor())
    found = []
    for sample in samples:
        batch = collator([sample])
        with torch.no_grad():
            found.append((model(**batch).loss.item(), int((batch["labels"] != -100).sum())))
    return found


@pytest.mark.parametrize("mean_one", [False, True])
def test_weighted_loss_is_the_weighted_mean_over_tokens(mean_one: bool, tmp_path: Path) -> None:
    samples = [make_sample(0), make_sample(3), TEXT_ONLY]
    weight = ResolutionWeight(base=40, maximum=2.0)
    weights = [weight([(i.height, i.width) for i in sample.get("images", [])]) for sample in samples]
    assert len(set(weights)) == 3
    trainer, _ = make_trainer(
        tmp_path,
        samples,
        max_steps=1,
        per_device_train_batch_size=3,
        resolution_loss_weight=True,
        loss_weight_base=40,
        loss_weight_max=2.0,
        loss_weight_mean_one=mean_one,
    )
    parts = sample_losses(tiny_model(), samples)
    trainer.train()
    total = sum(w * loss * count for w, (loss, count) in zip(weights, parts, strict=True))
    items = sum((w if mean_one else 1) * count for w, (_, count) in zip(weights, parts, strict=True))
    assert losses(trainer) == pytest.approx([total / items], rel=1e-5)


def test_evaluation_is_neither_weighted_nor_augmented(tmp_path: Path) -> None:
    samples = make_samples(3)
    settings = {"resolution_loss_weight": True, "random_scale": [0.3, 0.5], "per_device_eval_batch_size": 3}
    trainer, _ = make_trainer(tmp_path, samples, **settings)
    parts = sample_losses(tiny_model(), samples)
    expected = sum(loss * count for loss, count in parts) / sum(count for _, count in parts)
    assert trainer.evaluate(samples)["eval_loss"] == pytest.approx(expected, rel=1e-5)
    trainer.args.prediction_loss_only = True
    assert trainer.predict(samples).metrics["test_loss"] == pytest.approx(expected, rel=1e-5)
    assert trainer.data_collator.random_scale == [0.3, 0.5]


# --- order ---


def drawn(trainer: FilaTrainer) -> list[torch.Tensor]:
    """Pixels of the batches in the order in which the model gets them."""
    batches: list[torch.Tensor] = []
    trainer.model.register_forward_pre_hook(
        lambda module, args, kwargs: batches.append(kwargs["pixel_values"].clone()), with_kwargs=True
    )
    return batches


@pytest.mark.parametrize("settings", [{}, {"group_by_resolution": True, "random_scale": [0.6, 1.4]}])
def test_a_resumed_run_goes_on_with_the_same_batches_and_losses(settings: dict[str, Any], tmp_path: Path) -> None:
    """Stopped in the middle of the second epoch."""
    settings = {"max_steps": 7, "save_strategy": "steps", "save_steps": 5, "learning_rate": 0.01, **settings}
    whole, _ = make_trainer(tmp_path / "whole", make_samples(7), **settings)
    expected = drawn(whole)
    whole.train()
    (tmp_path / "whole").rename(tmp_path / "moved")
    resumed, _ = make_trainer(tmp_path / "moved", make_samples(7), **settings)
    found = drawn(resumed)
    resumed.train(resume_from_checkpoint=str(tmp_path / "moved" / "checkpoint-5"))
    assert len(expected) == 7
    assert all(torch.equal(a, b) for a, b in zip(found, expected[5:], strict=True))
    assert losses(resumed) == losses(whole)
    first, second = expected[:4], expected[4:]
    assert any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(first, second, strict=False))


def test_a_run_that_began_with_text_alone_resumes(tmp_path: Path) -> None:
    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            yield from [TEXT_ONLY] * 2 + make_samples(2)

    settings = {"max_steps": 4, "per_device_train_batch_size": 1, "save_strategy": "steps", "save_steps": 2}
    whole, resumed = (make_trainer(tmp_path, Stream(), **settings)[0] for _ in range(2))  # type: ignore[arg-type]
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert losses(resumed) == losses(whole)
    assert len(losses(whole)) == 4


def test_a_stream_resumed_beyond_its_first_pass_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            yield from make_samples(4)

    told: list[str] = []
    monkeypatch.setattr("fila.training.trainer.logger.warning", told.append)
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 1}
    whole, at_its_end, lost = (make_trainer(tmp_path, Stream(), **settings)[0] for _ in range(3))  # type: ignore[arg-type]
    whole.train()
    at_its_end.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert losses(at_its_end) == losses(whole)
    assert told == []
    lost.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert losses(lost) != losses(whole)
    assert len(told) == 1
    assert "step 3 was saved in pass 2 over a stream. Trainer finds its place in the first pass alone" in told[0]


def test_every_pass_over_a_stream_draws_other_scales(tmp_path: Path) -> None:
    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            yield from make_samples(2)

    trainer, _ = make_trainer(tmp_path, Stream(), max_steps=3, random_scale=[0.4, 1.6])  # type: ignore[arg-type]
    batches = drawn(trainer)
    trainer.train()
    first, second, third = batches
    assert not any(a.shape == b.shape and torch.equal(a, b) for a, b in ((first, second), (second, third)))


def test_batches_hold_images_of_like_resolution(tmp_path: Path) -> None:
    samples = [make_sample(n, size=(20, 50) if n % 2 else (50, 20)) for n in range(8)]
    trainer, _ = make_trainer(tmp_path, samples, max_steps=4, group_by_resolution=True)
    grids: list[list[list[int]]] = []
    trainer.model.register_forward_pre_hook(
        lambda module, args, kwargs: grids.append(kwargs["tile_grid"].tolist()), with_kwargs=True
    )
    trainer.train()
    assert sorted(grids) == [[[1, 2]] * 2] * 2 + [[[2, 1]] * 2] * 2


# --- checkpoints ---


def test_every_checkpoint_has_the_processor(tmp_path: Path) -> None:
    trainer, _ = make_trainer(tmp_path, make_samples(2), max_steps=2, save_strategy="steps", save_steps=1)
    trainer.processing_class.image_processor.canvas = {"type": "single"}
    trainer.train()
    for step in (1, 2):
        processor = AutoProcessor.from_pretrained(tmp_path / f"checkpoint-{step}")
        assert processor.image_processor.canvas == {"type": "single"}


def test_an_incomplete_checkpoint_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, _ = make_trainer(tmp_path, make_samples(2), max_steps=2, save_strategy="steps", save_steps=1)
    monkeypatch.setattr(trainer.processing_class, "save_pretrained", lambda *args, **kwargs: None)
    with pytest.raises(
        RuntimeError, match=r"must open and resume by itself; .*checkpoint-1 lacks \['processor_config"
    ):
        trainer.train()


def test_resuming_needs_a_whole_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-3").mkdir()
    trainer, _ = make_trainer(tmp_path, make_samples(2))
    with pytest.raises(ValueError, match=r"must be a complete checkpoint-\* to resume from in"):
        trainer.train(resume_from_checkpoint=True)


# --- what is refused ---


def test_a_processor_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"FilaTrainer needs the processor.*`processing_class` is None"):
        FilaTrainer(tiny_model(), arguments(tmp_path))


def test_arguments_must_be_ours(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="FilaTrainer takes FilaTrainingArguments; got TrainingArguments"):
        FilaTrainer(tiny_model(), TrainingArguments(str(tmp_path)), processing_class=tiny_processor())


def test_one_loss_only(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pass either it or `compute_loss_func`"):
        FilaTrainer(
            tiny_model(),
            arguments(tmp_path, resolution_loss_weight=True),
            processing_class=tiny_processor(),
            compute_loss_func=print,
        )


@pytest.mark.parametrize(
    ("options", "changes", "match"),
    [
        ({}, {"max_length": 90}, "`max_length` is for the default collator; set `max_length` of the `data_collator`"),
        ({}, {"random_scale": [0.5, 1.0]}, "`random_scale` is for the default collator"),
        ({}, {"resolution_loss_weight": True}, "`resolution_loss_weight` is for .*; set `loss_weight` of the"),
        ({"loss_weight": ResolutionWeight()}, {}, "makes loss weights; they need `resolution_loss_weight`"),
    ],
)
def test_a_collator_of_ones_own_must_do_what_the_arguments_say(
    options: dict[str, Any], changes: dict[str, Any], match: str, tmp_path: Path
) -> None:
    processor = tiny_processor()
    with pytest.raises(ValueError, match=match):
        FilaTrainer(
            tiny_model(),
            arguments(tmp_path, **changes),
            processing_class=processor,
            data_collator=FilaCollator(processor, **options),
        )


def test_several_gpus_need_as_many_processes(tmp_path: Path) -> None:
    settings = arguments(tmp_path)
    settings._n_gpu = 2
    with pytest.raises(
        ValueError, match=r"one process per GPU; this process has 2.*by `accelerate launch` or torchrun"
    ):
        FilaTrainer(tiny_model(), settings, processing_class=tiny_processor())


def test_streams_and_generated_samples_cannot_be_grouped(tmp_path: Path) -> None:
    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            yield make_sample(0)

    pages = GeneratedSamples(make_sample, 5)
    for data in (Stream(), pages, Mixture([(pages, 1), (make_samples(2), 1)])):
        trainer, _ = make_trainer(tmp_path, data, group_by_resolution=True)  # type: ignore[arg-type]
        match = f"looks at the sizes of all images.*neither a stream nor generated; got {type(data).__name__}"
        with pytest.raises(ValueError, match=match):
            trainer.train()


def test_model_keeps_what_its_images_went_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, _ = make_trainer(tmp_path, make_samples(2))
    model, processor = trainer.model, trainer.processing_class
    told: list[str] = []
    monkeypatch.setattr("fila.training.trainer.logger.warning", told.append)
    trainer._keep_preprocessing()
    trainer._keep_preprocessing()
    assert model.config.preprocessing == processor.preprocessing()
    assert told == []
    model.config.preprocessing = tiny_processor(image_mean=[0.5] * 3).preprocessing()
    trainer._keep_preprocessing()
    assert model.config.preprocessing == processor.preprocessing()
    assert told == ["The model was trained with other preprocessing so far; what differs: ['image_mean']."]
