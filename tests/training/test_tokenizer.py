# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Training of the tokenizer: terms of the loss, restarts of codes, the report."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel, ConvNextConfig, ConvNextModel, TrainingArguments

from fila.training.tokenizer import PerceptualLoss, TokenizerTrainer, residual_vectors, restart_codes
from fila.training.tokenizer_report import measure, plot_psnr, plot_usage
from tests.helpers import assert_close, randomise
from tests.modeling.tiny_var import tiny_tokenizer_model


def test_codes_restart_at_vectors_that_are_looked_up() -> None:
    model = tiny_tokenizer_model()
    images = torch.rand(3, 3, 16, 16) * 2 - 1
    vectors = residual_vectors(model, images)
    assert vectors.shape == (3 * (1 + 4 + 16), 5)
    before = model.quantize.embedding.weight.detach().clone()
    dead = torch.zeros(11, dtype=torch.bool)
    dead[[2, 7]] = True
    assert restart_codes(model, images, dead) == 2
    after = model.quantize.embedding.weight.detach()
    assert torch.equal(after[~dead], before[~dead])
    assert_close(torch.cdist(after[dead], vectors).min(1).values, torch.zeros(2), 1e-3)
    assert restart_codes(model, images, torch.zeros(11, dtype=torch.bool)) == 0


def vision_models() -> list[nn.Module]:
    clip = CLIPVisionConfig(
        hidden_size=8, intermediate_size=9, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=4
    )
    return [CLIPVisionModel(clip), ConvNextModel(ConvNextConfig(hidden_sizes=[4, 6], depths=[1, 1], num_stages=2))]


@pytest.mark.parametrize("index", [0, 1], ids=["tokens", "maps"])
def test_perceptual_loss_is_the_distance_of_hidden_states(index: int) -> None:
    vision = vision_models()[index]
    loss = PerceptualLoss(vision, [0.5] * 3, [0.25] * 3, layers=[1])
    images, other = (torch.rand(2, 3, 16, 16, requires_grad=True) for _ in range(2))
    assert_close(loss(images, images).detach(), torch.tensor(0.0), 1e-12)
    states = [vision(((x + 1) / 2 - 0.5) / 0.25, output_hidden_states=True).hidden_states[1] for x in (images, other)]
    ours, theirs = (state / state.norm(dim=-1 if index == 0 else 1, keepdim=True) for state in states)
    assert_close(loss(images, other).detach(), ((ours - theirs) ** 2).mean().detach())
    loss.train()
    assert not vision.training
    assert all(not weight.requires_grad for weight in vision.parameters())
    loss(images, other).backward()
    assert other.grad is not None
    assert other.grad.any()


def test_trainer_sums_the_terms_and_logs_them(tmp_path: Path) -> None:
    model = tiny_tokenizer_model()
    samples = [{"pixel_values": torch.rand(3, 16, 16) * 2 - 1} for _ in range(8)]
    perceptual = PerceptualLoss(vision_models()[1], [0.5] * 3, [0.25] * 3)
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=4,
        per_device_train_batch_size=2,
        learning_rate=1e-3,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        disable_tqdm=True,
    )
    trainer = TokenizerTrainer(
        model, arguments, perceptual=perceptual, perceptual_weight=0.5, train_dataset=samples, restart_steps=2
    )
    before = model.quantize.embedding.weight.detach().clone()
    trainer.train()
    entry = trainer.state.log_history[0]
    terms = [entry[f"{name}_loss"] for name in ("reconstruction", "quantisation", "perceptual")]
    assert entry["loss"] == pytest.approx(terms[0] + terms[1] + 0.5 * terms[2], rel=1e-3)
    assert not torch.equal(model.quantize.embedding.weight, before)
    assert int(model.quantize.hit_updates) == 4 * 3
    assert trainer.restarted > 0


def test_report_counts_what_scales_take() -> None:
    model = tiny_tokenizer_model()
    randomise(model, std=0.2)
    images = torch.rand(5, 3, 16, 16) * 2 - 1
    reports = measure(model, images.split(2))
    ids = model.encode(images)
    for report, found, drawn in zip(reports, ids, model.reconstruct(images, every_scale=True), strict=True):
        shares = found.flatten().bincount(minlength=11) / found.numel()
        entropy = float(-(shares[shares > 0] * shares[shares > 0].log2()).sum())
        assert report.usage == pytest.approx(len(found.unique()) / 11)
        assert report.perplexity == pytest.approx(2**entropy, rel=1e-4)
        error = float(((drawn - images) / 2).square().mean())
        assert report.psnr == pytest.approx(-10 * np.log10(error), abs=1e-3)
    assert [report.tokens for report in reports] == [1, 5, 21]
    with pytest.raises(ValueError, match="There must be an image to measure"):
        measure(model, [])


def test_plots_are_pictures(tmp_path: Path) -> None:
    reports = measure(tiny_tokenizer_model(), [torch.zeros(1, 3, 16, 16)])
    for path in (
        plot_psnr(reports, tmp_path / "psnr.png", title="t"),
        plot_usage(reports, 11, tmp_path / "usage.png", title="t"),
    ):
        with Image.open(path) as picture:
            assert picture.width > 500
