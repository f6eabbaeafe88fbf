# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Packed samples: losses and gradients of each alone, rows that are nearly full, and what cannot be packed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainingArguments

from fila import FilaConfig, FilaProcessor
from fila.conversion.remote_code import model_code
from fila.training.collator import FilaCollator
from fila.training.data import GeneratedSamples
from fila.training.loss_weight import ResolutionWeight
from fila.training.packing import PackedSamples, fill_rows, measure
from fila.training.trainer import FilaTrainer
from tests.cases import each
from tests.helpers import assert_close, random_image, tiny_canvas, tiny_canvas_processor, tiny_model, tiny_processor
from tests.processing.test_token_pruning import page
from tests.training.samples import arguments, conversation, losses, make_sample, make_samples

SAMPLES = [
    make_sample(0),
    conversation([], "Hm?", "No."),
    conversation([random_image(61, 17), random_image(90, 91)], "Both?", "Yes, both"),
]


def pruned_processor() -> FilaProcessor:
    """The processor of `tiny_model` with PixelPrune."""
    plain = tiny_processor()
    return FilaProcessor(
        plain.image_processor, plain.tokenizer, plain.chat_template, tokens_per_tile=16, prune="pixelprune"
    )


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def test_a_packed_sample_has_the_logits_and_gradients_of_it_alone() -> None:
    collator, model = FilaCollator(tiny_processor()), tiny_model().train()
    row = collator([SAMPLES])
    alone = [collator([sample]) for sample in SAMPLES]
    counts = [int((one["labels"] != -100).sum()) for one in alone]
    assert row["input_ids"].shape == (1, sum(one["input_ids"].shape[1] for one in alone))
    assert "attention_mask" not in row
    output = model(**row)
    output.loss.backward()
    packed = gradients(model)
    model.zero_grad()
    outputs = [model(**one) for one in alone]
    assert_close(output.logits, torch.cat([one.logits for one in outputs], dim=1), 1e-4)  # measured: 7e-6
    expected: Any = sum(one.loss * count for one, count in zip(outputs, counts, strict=True)) / sum(counts)
    assert_close(output.loss, expected, 1e-5)
    expected.backward()
    for name, gradient in gradients(model).items():
        assert_close(packed[name], gradient, 1e-4 * max(1.0, float(gradient.abs().max())))


def test_pruned_samples_of_a_row_keep_their_positions_and_stay_apart() -> None:
    processor = pruned_processor()
    collator = FilaCollator(processor)
    blank = [
        conversation([page()], "What?", "A word"),
        conversation([], "Hm?", "No."),
        conversation([page(61, 97, "x"), page(90, 91)], "Both?", "Yes, both"),
    ]
    for attention in ("sdpa", "eager"):
        model = tiny_model()
        model.set_attn_implementation({"text_config": attention})
        row = collator([blank])
        assert int((row["position_ids"].diff() > 1).sum()) > 3
        packed = model(**row).logits
        alone = torch.cat([model(**collator([sample])).logits for sample in blank], dim=1)
        assert_close(packed, alone, 1e-4)
    model.model.language_model.config._attn_implementation = "flex_attention"
    with pytest.raises(ValueError, match="Rows of several samples with pruned images need"):
        model(**row)


@pytest.mark.parametrize("packing", [False, True])
def test_trainer_learns_from_pruned_images_and_saves_what_it_did(packing: bool, tmp_path: Path) -> None:
    processor, model = pruned_processor(), tiny_model()
    data = [conversation([page(90, 150, text)], "What?", text) for text in ("one", "two", "three", "four")]
    of_rows = {"packing": True, "max_length": 300, "per_device_train_batch_size": 1} if packing else {}
    options = arguments(tmp_path, max_steps=2, **of_rows)
    trainer = FilaTrainer(model, options, train_dataset=data, processing_class=processor)
    trainer.train()
    assert all(loss > 0 for loss in losses(trainer))
    trainer.save_model(str(tmp_path / "final"))
    config = FilaConfig.from_pretrained(tmp_path / "final")
    assert config.preprocessing["prune"] == {"type": "pixelprune"}
    assert "pruning.py" in model_code(config)
    assert FilaProcessor.from_pretrained(tmp_path / "final").prune == {"type": "pixelprune"}


def test_gradients_do_not_cross_from_a_sample_to_another() -> None:
    model = tiny_model()
    row = FilaCollator(tiny_processor())([SAMPLES])
    embeds = model.get_input_embeddings()(row["input_ids"]).detach().requires_grad_()
    starts = (row["position_ids"][0] == 0).nonzero().flatten().tolist()
    text = {name: row[name] for name in ("position_ids", "use_cache")}
    hidden = model.model.language_model(inputs_embeds=embeds, **text).last_hidden_state
    hidden[0, starts[1] : starts[2]].sum().backward()
    reached = embeds.grad[0].abs().sum(1).nonzero().flatten()
    assert starts[1] <= int(reached.min())
    assert int(reached.max()) < starts[2]


@each(
    "settings",
    [
        {"canvas": {"type": "fila"}},
        {"canvas": tiny_canvas("llava_next"), "layout": {"type": "llava_next"}, "token_size": 7},
        {"canvas": tiny_canvas("uhd"), "layout": {"type": "llava_uhd"}},
        {"canvas": {"type": "fila"}, "layout": {"type": "leo"}},
        {"canvas": {"type": "fila"}, "max_prompt_image_tokens": 130, "image_token_policy": "shrink_images"},
    ],
)
def test_samples_are_measured_without_pixels(settings: dict[str, Any]) -> None:
    processor = tiny_canvas_processor(**settings)
    processor.chat_template = tiny_processor().chat_template
    made = [FilaCollator(processor)([sample]) for sample in SAMPLES]
    views = [int(one["view_boxes"].any(-1).sum()) if "view_boxes" in one else 0 for one in made]
    tokens = [one["input_ids"].shape[1] for one in made]
    assert measure(SAMPLES, processor) == [*zip(tokens, views, strict=True)]


def test_rows_are_full_and_hold_every_sample_once() -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = [(int(n), int(n) // 16) for n in (torch.rand(2000, generator=generator) ** 3 * 900 + 20)]
    rows = fill_rows(sizes, 1024)
    assert sorted(index for row in rows for index in row) == [*range(2000)]
    assert max(sum(sizes[index][0] for index in row) for row in rows) <= 1024
    assert sum(tokens for tokens, _ in sizes) / (1024 * len(rows)) > 0.98
    capped = fill_rows(sizes, 1024, 30)
    assert sorted(index for row in capped for index in row) == [*range(2000)]
    assert all(len(row) == 1 or sum(sizes[index][1] for index in row) <= 30 for row in capped)
    assert fill_rows([(2000, 1), (1024, 1), (5, 1)], 1024) == [[0], [1], [2]]


@pytest.mark.parametrize("kind", ["fila", "plain"])
def test_a_packed_step_is_the_step_of_its_samples(kind: str, tmp_path: Path) -> None:
    samples = make_samples(5)
    settings = {
        "max_steps": 1,
        "max_grad_norm": 0.0,
        "optim": "sgd",
        "learning_rate": 0.1,
        "warmup_steps": 0,
        "use_cpu": True,
    }
    settings |= {"lr_scheduler_type": "constant"}
    found = {}
    for batch_size, length in ((1, 1000), (5, None)):
        model = tiny_model()
        changes = {**settings, "per_device_train_batch_size": batch_size, "max_length": length}
        if kind == "fila" or length is None:
            options = arguments(tmp_path, packing=length is not None, **changes)
            trainer: Any = FilaTrainer(model, options, processing_class=tiny_processor(), train_dataset=samples)
        else:
            del changes["max_length"]
            options = TrainingArguments(
                str(tmp_path), remove_unused_columns=False, report_to="none", logging_steps=1, **changes
            )
            packed = PackedSamples(samples, tiny_processor(), 1000)
            trainer = Trainer(model, options, data_collator=FilaCollator(tiny_processor()), train_dataset=packed)
        trainer.train()
        found[length] = losses(trainer), model.model.language_model.embed_tokens.weight.detach()
    assert found[1000][0] == pytest.approx(found[None][0], rel=1e-4)
    assert_close(found[1000][1], found[None][1], 1e-4)


def test_packing_that_would_be_wrong_is_refused(tmp_path: Path) -> None:
    for changes, message in (
        ({}, r"needs `max_length`"),
        ({"max_length": 99, "per_device_train_batch_size": 2}, r"a batch is one row.*got 2"),
        ({"max_length": 99, "group_by_resolution": True}, r"cannot go with \['group_by_resolution'\]"),
        ({"max_length": 99, "random_scale": [0.5, 1.0]}, r"cannot go with \['random_scale'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            arguments(tmp_path, packing=True, **({"per_device_train_batch_size": 1} | changes))
    with pytest.raises(ValueError, match=r"`packing_max_views` needs `packing`"):
        arguments(tmp_path, packing_max_views=3)
    options = arguments(tmp_path, packing=True, max_length=400, per_device_train_batch_size=1)
    with pytest.raises(ValueError, match=r"`shared_positions` cannot tell apart"):
        FilaTrainer(tiny_model(shared_positions=True), options, processing_class=tiny_processor())
    with pytest.raises(ValueError, match=r"dataset with a length; got generator"):
        FilaTrainer(
            tiny_model(), options, processing_class=tiny_processor(), train_dataset=(sample for sample in SAMPLES)
        )
    with pytest.raises(ValueError, match=r"is not generated; got GeneratedSamples"):
        FilaTrainer(
            tiny_model(), options, processing_class=tiny_processor(), train_dataset=GeneratedSamples(make_sample, 3)
        )
    video = [{"videos": ["a.mp4"], "messages": [{"role": "user", "content": [{"type": "video"}]}]}]
    with pytest.raises(ValueError, match=r"Sample 0 has videos"):
        PackedSamples(video, tiny_processor(), 100)
    with pytest.raises(ValueError, match=r"`sizes` must have one entry per sample: 3; got 1"):
        PackedSamples(SAMPLES, tiny_processor(), 100, sizes=[(1, 1)])
    for wrong in ({"max_length": 0}, {"max_length": 9, "max_views": -1}):
        with pytest.raises(ValueError, match=r"must be a positive integer: what a row may hold"):
            PackedSamples(SAMPLES, tiny_processor(), **wrong)
    for collator in ({"generate": True}, {"loss_weight": ResolutionWeight()}):
        with pytest.raises(ValueError, match=r"share a row, which can neither be continued nor weighted"):
            FilaCollator(tiny_processor(), **collator)([SAMPLES])


def test_long_samples_are_cut_or_named_as_without_packing() -> None:
    long = conversation([random_image(20, 50)], "Hm?", "x" * 300)
    packed = PackedSamples([long, *SAMPLES], tiny_processor(), 200)
    collator = FilaCollator(tiny_processor(), max_length=200)
    assert max(collator([row])["input_ids"].shape[1] for row in (packed[n] for n in range(len(packed)))) <= 200
    with pytest.raises(ValueError, match=r"has \d+ tokens, 48 of them image tokens, and may have 50"):
        FilaCollator(tiny_processor(), max_length=50)([SAMPLES])
