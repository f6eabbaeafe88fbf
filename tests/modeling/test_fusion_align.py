# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest
import torch
import torch.nn.functional as F

from fila.modeling.fusion_align import (
    Align,
    area_resample,
    interpolate_box,
    resize_corners,
    stack_stages,
)
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
            conv.set_initial_weights(0.02)
            conv.bias.zero_()
    high = torch.randn(2, 5, 16, 16)
    assert_close(align(high), F.avg_pool2d(high, 4), 1e-6)


@pytest.mark.parametrize("kind", ["conv", "pool", "bilinear", "corners"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_alignment_in_half_precision(kind: str, dtype: torch.dtype) -> None:
    align = Align(kind, channels=5, side=8, grid=4)
    maps = torch.randn(2, 5, 8, 8)
    expected = align(maps)
    actual = align.to(dtype)(maps.to(dtype))
    assert actual.dtype == dtype
    assert_close(actual.float(), expected, 0.02)


def test_pool_alignment_takes_any_ratio() -> None:
    high = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    pooled = Align("pool", channels=3, side=16, grid=7)(high)
    expected = torch.stack([cut(view.permute(1, 2, 0), [0, 0, 16, 16], 7).permute(2, 0, 1) for view in high])
    assert_close(pooled, expected, 1e-12)


def test_stacked_stages_have_the_size_of_the_first() -> None:
    fine, coarse = torch.randn(2, 3, 8, 4), torch.arange(4.0).reshape(1, 1, 2, 2).expand(2, 5, 2, 2)
    stacked = stack_stages([fine, coarse])
    assert torch.equal(stacked[:, :3], fine)
    assert stacked.shape == (2, 8, 8, 4)
    # edges on edges: 2 cells to 4 give a quarter and three quarters between the centres
    assert stacked[0, 3, 0].tolist() == [0, 0.25, 0.75, 1]


def test_a_box_shrunk_to_a_third_is_every_third_cell() -> None:
    features = torch.arange(81.0).reshape(1, 9, 9)
    shrunk = interpolate_box(features, (0, 0, 9, 9), (3, 3))
    assert torch.equal(shrunk, features[:, 1::3, 1::3])
    assert not torch.equal(area_resample(features * features, (0, 0, 9, 9), (3, 3)), (shrunk * shrunk))


def test_cells_that_a_box_touches_count_whole() -> None:
    features = torch.randn(2, 9, 9)
    whole = interpolate_box(features, (1, 2, 7, 8), (3, 3))
    assert torch.equal(interpolate_box(features, (1.2, 2.9, 6.5, 7.1), (3, 3)), whole)


def test_corners_stay_where_they_are() -> None:
    features = torch.randn(2, 3, 7, 7)
    resized = resize_corners(features, (4, 4))
    assert_close(resized[..., [0, 0, -1, -1], [0, -1, 0, -1]], features[..., [0, 0, -1, -1], [0, -1, 0, -1]])
    assert resize_corners(features, (7, 7)) is features
