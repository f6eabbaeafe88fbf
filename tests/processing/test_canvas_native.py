# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""One view of the image's own size."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from fila.processing.canvas_native import NativeCanvas
from fila.processing.canvas_plan import Box, Size

TILE = Size(336, 336)


@pytest.mark.parametrize(
    ("size", "view"),
    [
        ((1, 1), (14, 14)),
        ((20, 21), (14, 28)),  # 21 / 14 = 1.5 goes to the even multiple
        ((35, 36), (28, 42)),  # 2.5 likewise
        ((896, 896), (896, 896)),
        ((910, 896), (896, 882)),  # one row too many: both sides shrink
        ((1, 250_000), (14, 57_344)),  # 4096 patches in one row
    ],
    ids=str,
)
def test_native_golden(size: tuple[int, int], view: tuple[int, int]) -> None:
    plan = NativeCanvas(TILE)(*size)
    assert plan.view_sizes == (Size(*view),)
    assert plan.content_box == Box(0, 0, *view)


@given(height=st.integers(28, 3000), width=st.integers(28, 3000))
@example(351, 2199)  # too large by rounding alone: one side grows, the other shrinks
def test_native_matches_smart_resize(height: int, width: int) -> None:
    # transformers enlarges images below `min_pixels`; ours does not, so the limit is put at one patch.
    expected = smart_resize(height, width, factor=28, min_pixels=28 * 28, max_pixels=1024 * 784)
    plan = NativeCanvas(TILE, multiple=2, max_patches=4096)(height, width)
    assert plan.canvas_size == expected


@given(height=st.integers(1, 100_000), width=st.integers(1, 100_000), multiple=st.integers(1, 3))
def test_native_is_bounded_and_in_whole_groups(height: int, width: int, multiple: int) -> None:
    for fit in ("stretch", "corner"):
        (size,) = NativeCanvas(TILE, multiple=multiple, max_patches=1000, fit=fit)(height, width).view_sizes
        assert size.height % (14 * multiple) == size.width % (14 * multiple) == 0
        assert size.height * size.width // 196 <= 1000


def test_corner_keeps_the_pixels() -> None:
    plan = NativeCanvas(TILE, fit="corner")(30, 41)
    assert plan.canvas_size == (42, 42)
    assert plan.content_box == Box(0, 0, 30, 41)


def test_corner_shrinks_what_is_too_large() -> None:
    plan = NativeCanvas(TILE, fit="corner", max_patches=16)(100, 50)
    assert plan.canvas_size == (70, 28)
    assert plan.content_box == Box(0, 0, 56, 28)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": 0}, r"`canvas.patch_size` must be a positive integer; got 0\."),
        ({"multiple": 0}, r"`canvas.multiple` must be a positive integer; got 0\."),
        ({"max_patches": -1}, r"`canvas.max_patches` must be a positive integer or null; got -1\."),
        ({"max_patches": 3, "multiple": 2}, r"`canvas.max_patches` must be at least `multiple`\^2 = 4; got 3\."),
        ({"fit": "center"}, r"`canvas.fit` must be one of \['stretch', 'corner'\]; got 'center'\."),
    ],
    ids=str,
)
def test_native_rejects_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NativeCanvas(TILE, **options)
