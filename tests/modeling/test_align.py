# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest
import torch
import torch.nn.functional as F

from fila.modeling.align import Align, area_resample
from tests.helpers import assert_close
from tests.reference.naive_hybrid_encoder import area_weights, cut


@pytest.mark.parametrize(
    ("box", "size"),
    [
        pytest.param((0, 0, 11, 13), (11, 13), id="whole"),
        pytest.param((2, 3, 8, 9), (6, 6), id="tile-is-cut-out"),
        pytest.param((1, 1, 9, 13), (4, 3), id="whole-multiples"),
        pytest.param((0.5, 1.25, 10.75, 12.5), (7, 5), id="fractional-shrink"),
        pytest.param((3.2, 4.1, 5.0, 6.3), (5, 7), id="fractional-grow"),
        pytest.param((0, 0, 11, 13), (5, 3), id="uneven"),
    ],
)
def test_area_resample_matches_exact_overlaps(box: tuple[float, ...], size: tuple[int, int]) -> None:
    features = torch.randn(3, 11, 13, dtype=torch.float64)
    by_row = area_weights(box[0], box[2], size[0], 11)
    by_col = area_weights(box[1], box[3], size[1], 13)
    expected = torch.einsum("rh,ehw,cw->erc", by_row, features, by_col)
    assert_close(area_resample(features, box, size), expected, 1e-12)  # type: ignore[arg-type]


def test_area_resample_keeps_a_constant_and_the_dtype() -> None:
    features = torch.full((2, 9, 9), 3.0, dtype=torch.bfloat16)
    resampled = area_resample(features, (0.3, 0.7, 8.1, 8.9), (4, 4))
    assert resampled.dtype == torch.bfloat16
    assert torch.equal(resampled, torch.full((2, 4, 4), 3.0, dtype=torch.bfloat16))


def test_conv_alignment_starts_as_the_mean() -> None:
    align = Align("conv", channels=5, side=16, grid=4)
    assert len(align.convs) == 2
    with torch.no_grad():
        for conv in align.convs:
            conv.weight.copy_(conv.initial_weight())
            conv.bias.zero_()
    high = torch.randn(2, 5, 16, 16)
    assert_close(align(high), F.avg_pool2d(high, 4), 1e-6)


def test_pool_alignment_takes_any_ratio() -> None:
    high = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    pooled = Align("pool", channels=3, side=16, grid=7)(high)
    expected = torch.stack([cut(view.permute(1, 2, 0), [0, 0, 16, 16], 7).permute(2, 0, 1) for view in high])
    assert_close(pooled, expected, 1e-12)
