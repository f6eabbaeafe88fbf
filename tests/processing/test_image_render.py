# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Rendering: what lies where, on numpy arrays and on tensors."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fila.processing.canvas_fila import FilaCanvas
from fila.processing.canvas_plan import Box, CanvasPlan, Size
from fila.processing.image_render import (
    content_mask,
    cut,
    render_canvas,
    render_high_res,
    render_overview,
    scale_geometry,
    side_by_side,
)
from tests.goldens import tensors_of

LOW, HIGH = Size(14, 14), Size(32, 32)
PLAN = CanvasPlan(
    image_size=Size(3, 5),
    canvas_size=Size(14, 28),
    content_box=Box(2, 0, 13, 28),
    tile_grid=(1, 2),
    tile_boxes=(Box(0, 0, 14, 14), Box(0, 14, 14, 28)),
    overview_size=Size(14, 14),
)


def blank(value: int, size: Size) -> np.ndarray:
    return np.full((3, *size), value, np.uint8)


def fill(image: Any, size: Size) -> Any:
    """Resize of an image whose pixels are all equal."""
    if isinstance(image, np.ndarray):
        return np.full((len(image), *size), image.flat[0], image.dtype)
    return image.flatten()[0].expand(len(image), *size)


BACKENDS = [np.asarray, torch.from_numpy]
over_backends = pytest.mark.parametrize("to_backend", BACKENDS, ids=["numpy", "torch"])


@over_backends
def test_canvas_is_black_around_the_content(to_backend: Any) -> None:
    canvas = np.asarray(render_canvas(to_backend(blank(7, PLAN.image_size)), PLAN, fill))
    expected = np.zeros((3, 14, 28), np.uint8)
    expected[:, 2:13, :] = 7
    assert canvas.dtype == np.uint8
    np.testing.assert_array_equal(canvas, expected)


@over_backends
def test_overview_is_the_whole_image_without_padding(to_backend: Any) -> None:
    overview = np.asarray(render_overview(to_backend(blank(7, PLAN.image_size)), PLAN, fill))
    np.testing.assert_array_equal(overview, blank(7, Size(14, 14)))


def test_no_overview_where_the_plan_has_none() -> None:
    plan = FilaCanvas(LOW, overview=False)(3, 5)
    assert render_overview(blank(7, Size(3, 5)), plan, fill) is None


def test_canvas_full_of_content_is_the_resized_image() -> None:
    plan = CanvasPlan(Size(3, 5), LOW, Box(0, 0, 14, 14), (1, 1), (Box(0, 0, 14, 14),))
    np.testing.assert_array_equal(render_canvas(blank(9, Size(3, 5)), plan, fill), blank(9, LOW))


def test_every_picture_is_resized_from_the_image_as_it_came() -> None:
    sources, sizes = [], []

    def spy(image: Any, size: Size) -> Any:
        sources.append(image.shape)
        sizes.append(tuple(size))
        return fill(image, size)

    image = blank(7, PLAN.image_size)
    render_overview(image, PLAN, spy)
    render_canvas(image, PLAN, spy)
    render_high_res(image, PLAN, spy, low=LOW, high=HIGH)
    assert sources == [(3, 3, 5)] * 3
    assert sizes == [(14, 14), (11, 28), (25, 64)]


@over_backends
def test_high_res_canvas_scales_every_edge(to_backend: Any) -> None:
    # Edges 2 and 13 of 14 lie at 4.57 and 29.71 of 32.
    canvas = np.asarray(render_high_res(to_backend(blank(7, PLAN.image_size)), PLAN, fill, low=LOW, high=HIGH))
    expected = np.zeros((3, 32, 64), np.uint8)
    expected[:, 5:30, :] = 7
    np.testing.assert_array_equal(canvas, expected)


def test_scale_rounds_half_up() -> None:
    # Edges 1 and 3 of 4 at half size lie at 0.5 and 1.5.
    plan = CanvasPlan(Size(1, 1), Size(4, 4), Box(1, 1, 3, 3), (1, 1), (Box(0, 0, 4, 4),))
    assert scale_geometry(plan, low=Size(2, 2), high=Size(1, 1)) == (Size(2, 2), Box(1, 1, 2, 2))


def test_scale_keeps_one_pixel_of_content() -> None:
    plan = CanvasPlan(Size(1, 1), Size(28, 28), Box(27, 13, 28, 14), (1, 1), (Box(0, 0, 28, 28),))
    assert scale_geometry(plan, low=Size(14, 14), high=Size(1, 1)) == (Size(2, 2), Box(1, 1, 2, 2))


@given(height=st.integers(1, 3000), width=st.integers(1, 3000), high=st.integers(1, 50))
def test_scaled_content_stays_on_the_canvas(height: int, width: int, high: int) -> None:
    plan = FilaCanvas(LOW)(height, width)
    size, box = scale_geometry(plan, low=LOW, high=Size(high, high))
    assert size == (plan.tile_grid[0] * high, plan.tile_grid[1] * high)
    assert 0 <= box.top < box.bottom <= size.height
    assert 0 <= box.left < box.right <= size.width


@over_backends
def test_cut_takes_the_boxes(to_backend: Any) -> None:
    canvas = np.arange(3 * 14 * 28).reshape(3, 14, 28)
    first, last = cut(to_backend(canvas), PLAN.tile_boxes)
    np.testing.assert_array_equal(np.asarray(first), canvas[:, :, :14])
    np.testing.assert_array_equal(np.asarray(last), canvas[:, :, 14:])


@over_backends
def test_padding_has_the_colour_of_the_plan(to_backend: Any) -> None:
    plan = dataclasses.replace(PLAN, fill=(1, 2, 255), overview_box=Box(0, 0, 14, 28))
    canvas = np.asarray(render_canvas(to_backend(blank(7, PLAN.image_size)), plan, fill))
    assert canvas[:, 0, 0].tolist() == canvas[:, 13, 27].tolist() == [1, 2, 255]
    assert (canvas[:, 2:13] == 7).all()
    overview = np.asarray(render_overview(to_backend(blank(7, PLAN.image_size)), plan, fill))
    assert overview[:, 1, 5].tolist() == [1, 2, 255]
    assert (overview[:, 2:13] == 7).all()


@over_backends
def test_padding_of_floats_is_a_fraction(to_backend: Any) -> None:
    plan = dataclasses.replace(PLAN, fill=(51, 0, 255))
    canvas = np.asarray(render_canvas(to_backend(np.full((3, 3, 5), 0.5, np.float32)), plan, fill))
    np.testing.assert_allclose(canvas[:, 0, 0], [0.2, 0, 1], rtol=1e-6)


@over_backends
def test_padding_first_resizes_the_padded_image(to_backend: Any) -> None:
    plan = dataclasses.replace(PLAN, fill=(1, 2, 3), padded_size=Size(6, 5))
    seen = []

    def spy(image: Any, size: Size) -> Any:
        seen.append((np.asarray(image), tuple(size)))
        return fill(image, size)

    render_canvas(to_backend(blank(7, PLAN.image_size)), plan, spy)
    ((padded, size),) = seen
    assert size == (14, 28)
    assert padded.shape == (3, 6, 5)
    assert (padded[:, 1:4] == 7).all()
    assert padded[:, 0, 0].tolist() == padded[:, 5, 4].tolist() == [1, 2, 3]


def test_content_mask_is_true_on_the_image() -> None:
    mask = content_mask(PLAN)
    assert mask.shape == (14, 28)
    assert mask[2:13].all()
    assert not mask[:2].any()
    assert not mask[13:].any()


@over_backends
def test_side_by_side_puts_patches_in_row_major_order(to_backend: Any) -> None:
    view = np.arange(2 * 6 * 9).reshape(2, 6, 9)
    packed = np.asarray(side_by_side(to_backend(view), 3))
    assert packed.shape == (2, 3, 18)
    np.testing.assert_array_equal(packed[:, :, :3], view[:, :3, :3])
    np.testing.assert_array_equal(packed[:, :, 6:9], view[:, :3, 6:])
    np.testing.assert_array_equal(packed[:, :, 9:12], view[:, 3:, :3])


def test_side_by_side_golden() -> None:
    for _, values in tensors_of("autoglm_seed_values.safetensors"):
        for view, patches in zip(values["in/patchify"], values["out/patchify"], strict=True):
            channels = len(view)
            side = math.isqrt(patches.shape[1] // channels)
            found = side_by_side(view, side).unflatten(2, (-1, side)).permute(2, 0, 1, 3).flatten(1)
            assert torch.equal(found, patches)


def test_side_by_side_rejects_parts_of_patches() -> None:
    with pytest.raises(ValueError, match=r"A view must be whole 4-pixel patches; got 6x8 pixels\."):
        side_by_side(np.zeros((3, 6, 8)), 4)
