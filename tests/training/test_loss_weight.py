# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest
import torch
from torch.nn import functional as F

from fila.training.loss_weight import ResolutionWeight, weighted_loss
from tests.goldens import numbers_in, tensors_of
from tests.helpers import assert_close


def test_weights_golden() -> None:
    """The source's own arithmetic, exactly; its base, 256, is our default."""
    assert ResolutionWeight() == ResolutionWeight(base=256)
    for _, values in tensors_of("autoglm_seed_values.safetensors"):
        for base in numbers_in(values, r"out/loss_weight_base(\d+)"):
            recorded = values[f"out/loss_weight_base{base}"].tolist()
            for size, weight in zip(values["in/loss_hw"].tolist(), recorded, strict=True):
                assert ResolutionWeight(base=base)([size]) == weight
                assert ResolutionWeight(base=base)([size[::-1]]) == weight
                assert ResolutionWeight(base=base, maximum=1.5)([size]) == min(weight, 1.5)


def test_weight_of_several_images_is_their_mean_and_of_none_is_one() -> None:
    assert ResolutionWeight(base=512)([(512, 512), (1024, 1024)]) == 1.5
    assert ResolutionWeight()([]) == 1.0


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="base of the loss weight must be a positive number of pixels; got 0"):
        ResolutionWeight(base=0)
    with pytest.raises(ValueError, match=r"maximum must be at least 1, its smallest value; got 0\.5"):
        ResolutionWeight(maximum=0.5)


def test_weighted_loss_is_the_sum_over_samples() -> None:
    logits, labels = torch.randn(3, 7, 11), torch.randint(0, 11, (3, 7))
    labels[0, :4] = labels[1, 5:] = -100
    weights = torch.tensor([0.5, 2.0, 1.25])
    expected = torch.zeros(())
    for row in range(3):
        for position in range(6):
            if labels[row, position + 1] >= 0:
                expected -= weights[row] * F.log_softmax(logits[row, position], -1)[labels[row, position + 1]]
    assert_close(weighted_loss(logits, labels, weights, 5), expected / 5, 1e-5)  # rounding of fp32
    plain = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    assert_close(weighted_loss(logits, labels, None), plain, 1e-6)
