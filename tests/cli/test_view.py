# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The picture of `fila view`: every part lies where the plan says, and shows the processor's own pixels."""

from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageColor

from fila.processing.canvas_plan import Box
from fila.view import HATCH, OVERVIEW, TILE, Seen, draw_view, lay_out, look
from tests.helpers import TILE as TILE_PIXELS
from tests.helpers import TOKENS_PER_TILE, random_image, tiny_image_processor

COLOUR = (37, 91, 203)


def see(image: Image.Image, **changes: Any) -> Seen:
    return look(tiny_image_processor(**changes), image, TOKENS_PER_TILE)


def pixel(picture: Image.Image, x: int, y: int) -> tuple[int, int, int]:
    value = picture.getpixel((x, y))
    assert isinstance(value, tuple)
    return value[0], value[1], value[2]


def colours_of(picture: Image.Image) -> set[tuple[int, ...]]:
    return {tuple(colour) for colour in np.unique(np.asarray(picture).reshape(-1, 3), axis=0).tolist()}


def test_look_undoes_the_normalisation() -> None:
    seen = see(Image.new("RGB", (31, 97), COLOUR))
    box = seen.plan.content_box
    for view, view_box in zip(seen.views, seen.plan.view_boxes, strict=True):
        pixels = np.asarray(view)
        rows, cols = np.mgrid[view_box.top : view_box.bottom, view_box.left : view_box.right]
        inside = (rows >= box.top) & (rows < box.bottom) & (cols >= box.left) & (cols < box.right)
        # The overview shows the content box stretched onto a tile, so all of it is inside.
        inside = inside if view is not seen.views[0] else np.ones(pixels.shape[:2], bool)
        assert (pixels[inside] == COLOUR).all()
        assert (pixels[~inside] == 0).all()


def test_look_shows_the_high_res_canvas_without_batch_padding() -> None:
    seen = see(random_image(53, 97))
    assert seen.high_res is not None
    rows, cols = seen.plan.tile_grid
    assert seen.high_res.size == (cols * 128, rows * 128)


def test_look_without_a_high_res_canvas() -> None:
    assert see(random_image(53, 97), high_res_size=None).high_res is None


def test_look_leaves_rescaled_only_pixels_alone() -> None:
    seen = see(Image.new("RGB", (29, 29), COLOUR), do_normalize=False)
    assert pixel(seen.views[0], 3, 5) == COLOUR


def test_draw_view_draws_every_tile_border() -> None:
    seen = see(random_image(53, 97))
    layout, picture = lay_out(seen), draw_view(seen, title="noise.png")
    border = ImageColor.getrgb(TILE)
    for box in seen.plan.tile_boxes:
        left, top, right, bottom = layout.box(box)
        x, y = (left + right) // 2, (top + bottom) // 2
        assert [pixel(picture, left, y), pixel(picture, right - 1, y)] == [border, border]
        assert [pixel(picture, x, top), pixel(picture, x, bottom - 1)] == [border, border]


def test_draw_view_magnifies_pixels_by_a_whole_number() -> None:
    seen = see(random_image(53, 97))
    layout, picture = lay_out(seen), draw_view(seen, title="noise.png")
    assert layout.scale == 1008 // max(seen.plan.canvas_size)
    row, col = 17, 11
    for view, box in zip(seen.views[1:], seen.plan.tile_boxes, strict=True):
        left, top, _, _ = layout.box(Box(box.top + row, box.left + col, box.top + row + 1, box.left + col + 1))
        half = int(layout.scale) // 2
        assert pixel(picture, left + half, top + half) == pixel(view, col, row)


def test_draw_view_hatches_padding_and_nothing_else() -> None:
    seen = see(Image.new("RGB", (61, 97), COLOUR))
    layout, picture = lay_out(seen), draw_view(seen, title="tall.png")
    content = seen.plan.content_box
    assert content.left > 5
    left, top, right, bottom = layout.box(Box(1, 5, seen.plan.tile_boxes[0].bottom - 1, content.left))
    colours = colours_of(picture.crop((left, top, right, bottom)))
    assert colours == {ImageColor.getrgb(HATCH), (0, 0, 0)}
    assert ImageColor.getrgb(HATCH) not in colours_of(picture.crop(layout.box(content)))


def test_draw_view_puts_the_overview_on_top_of_the_column() -> None:
    seen = see(random_image(53, 97))
    layout, picture = lay_out(seen), draw_view(seen, title="noise.png")
    x, y = layout.column_at
    side = round(TILE_PIXELS * layout.scale)
    assert pixel(picture, x, y + 34 + side // 2) == ImageColor.getrgb(OVERVIEW)
    step = side // TILE_PIXELS
    assert pixel(picture, x + 19 * step + step // 2, y + 34 + 23 * step + step // 2) == pixel(seen.views[0], 19, 23)


@pytest.mark.parametrize(
    ("canvas", "expected"),
    [({"type": "fila"}, [OVERVIEW, TILE, TILE, TILE, TILE]), ({"type": "single"}, [TILE])],
    ids=["fila", "single"],
)
def test_draw_view_gives_every_view_a_segment_in_prompt_order(canvas: dict[str, Any], expected: list[str]) -> None:
    seen = see(random_image(79, 83), canvas=canvas)
    picture = draw_view(seen, title="square.png")
    assert len(expected) == seen.plan.num_views
    width, height = picture.size
    segment = (width - 2 * 36) / len(expected)
    middles = [round(36 + segment * (index + 0.5)) for index in range(len(expected))]
    assert [pixel(picture, x, height - 40) for x in middles] == [ImageColor.getrgb(colour) for colour in expected]


def test_draw_view_shrinks_a_canvas_that_is_too_large() -> None:
    seen = see(random_image(97, 53), size={"height": 588, "width": 588}, high_res_size=None)
    layout = lay_out(seen)
    assert layout.scale == pytest.approx(1008 / max(seen.plan.canvas_size))
    left, top, right, bottom = layout.box(Box(0, 0, *seen.plan.canvas_size))
    assert max(right - left, bottom - top) == 1008


def test_draw_view_shortens_a_long_title() -> None:
    seen = see(random_image(28, 28), high_res_size=None)
    picture = draw_view(seen, title="scan " * 400, subtitle="model " * 400)
    assert picture.size == lay_out(seen).size
