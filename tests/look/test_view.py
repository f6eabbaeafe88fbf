# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The picture of `fila view`: every part lies where the plan says, and shows the processor's own pixels."""

from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageColor

from fila.look.drawing import CHOSEN, HATCH, OVERVIEW, TILE
from fila.look.processed_image import Seen, look
from fila.look.view import draw_view, lay_out
from fila.look.view_settings import Eyes
from fila.processing.canvas import CANVASES
from fila.processing.canvas_plan import Box
from tests.helpers import PATCH, random_image, tiny_canvas, tiny_canvas_processor, tiny_processor
from tests.helpers import TILE as TILE_PIXELS
from tests.processing.test_token_pruning import page

COLOUR = (37, 91, 203)


def see(image: Image.Image, **changes: Any) -> Seen:
    return look(Eyes(tiny_processor(**changes), (4, 4), PATCH, "tiny"), image)


def pixel(picture: Image.Image, x: int, y: int) -> tuple[int, int, int]:
    value = picture.getpixel((x, y))
    assert isinstance(value, tuple)
    return value[0], value[1], value[2]


def colours_of(picture: Image.Image) -> set[tuple[int, ...]]:
    return {tuple(colour) for colour in np.unique(np.asarray(picture).reshape(-1, 3), axis=0).tolist()}


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


def test_cells_that_are_left_out_are_veiled_and_no_others() -> None:
    plain = tiny_processor()
    processor = type(plain)(plain.image_processor, plain.tokenizer, tokens_per_tile=16, prune="pixelprune")
    image = page(90, 90)
    seen, whole = (look(Eyes(each, (4, 4), PATCH, "tiny"), image) for each in (processor, plain))
    made = processor(images=image, text="<image>", return_tensors="pt")
    assert seen.num_tokens == made["input_ids"].shape[1] == whole.num_tokens - len(seen.left_out)
    layout, drawn, bare = lay_out(seen), draw_view(seen, title="a"), draw_view(whole, title="a")
    for view, box in enumerate(seen.plan.view_boxes):
        left, top, right, bottom = layout.box(box) if view >= seen.first_tile else layout.overview or (0, 0, 0, 0)
        for cell in range(16):
            x = left + (right - left) * (2 * (cell % 4) + 1) // 8
            y = top + (bottom - top) * (2 * (cell // 4) + 1) // 8
            assert (pixel(drawn, x, y) != pixel(bare, x, y)) is (16 * view + cell in seen.left_out)


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
    assert layout.overview is not None
    x, y, right, bottom = layout.overview
    assert pixel(picture, x, (y + bottom) // 2) == ImageColor.getrgb(OVERVIEW)
    step = (right - x) // TILE_PIXELS
    assert pixel(picture, x + 19 * step + step // 2, y + 23 * step + step // 2) == pixel(seen.views[0], 19, 23)


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


def test_draw_view_marks_a_token_on_its_view_and_on_the_image() -> None:
    seen = see(Image.new("RGB", (97, 53), COLOUR))
    token = 16 + 16 + 2 * 4 + 1  # overview, tile 1, two rows of tile 2 and a token
    layout, picture = lay_out(seen, [token]), draw_view(seen, title="plain.png", tokens=[token])
    place, box = seen.shown_by(token)
    assert place == (2, 2, 1)
    assert box is not None
    assert layout.source is not None
    left, top, right, _ = layout.source
    scale = (right - left) / 97
    on_image = round(left + (box.left + box.right) / 2 * scale), round(top + (box.top + box.bottom) / 2 * scale)
    tile = seen.plan.tile_boxes[1]
    on_view = layout.box(Box(tile.top + 17, tile.left + 10, tile.top + 18, tile.left + 11))[:2]
    marked = pixel(picture, *on_image)
    assert marked == pixel(picture, *on_view) != COLOUR
    assert ImageColor.getrgb(CHOSEN) in colours_of(picture.crop(layout.source))
    assert pixel(picture, left + 20, top + 20) == COLOUR  # another place


def test_draw_view_rejects_a_token_that_the_image_lacks() -> None:
    with pytest.raises(ValueError, match=r"The image has tokens 0 to 79; got 80\."):
        draw_view(see(random_image(53, 97)), title="noise.png", tokens=[80])


@pytest.mark.parametrize("size", [(53, 97), (300, 23)], ids=str)
@pytest.mark.parametrize("canvas", CANVASES)
def test_draw_view_draws_every_strategy(canvas: str, size: tuple[int, int]) -> None:
    eyes = Eyes(tiny_canvas_processor(tiny_canvas(canvas)), (4, 4), PATCH, "tiny")
    seen = look(eyes, Image.new("RGB", size[::-1], COLOUR))
    tokens = range(min(3, seen.num_tokens))
    layout = lay_out(seen, tokens)
    picture = draw_view(seen, title="plain.png", tokens=tokens)
    assert picture.size == layout.size
    left, top, _, bottom = layout.box(seen.plan.tile_boxes[-1])
    assert pixel(picture, left, (top + bottom) // 2) == ImageColor.getrgb(TILE)
    assert COLOUR in colours_of(picture.crop(layout.box(seen.plan.content_box)))


@pytest.mark.parametrize("canvas", CANVASES)
def test_draw_view_draws_a_thread(canvas: str) -> None:
    eyes = Eyes(tiny_canvas_processor(tiny_canvas(canvas)), (4, 4), PATCH, "tiny")
    seen = look(eyes, Image.new("RGB", (3000, 1), COLOUR))
    layout = lay_out(seen, [0])
    assert draw_view(seen, title="thread.png", tokens=[0]).size == layout.size


def test_captions_of_a_narrow_canvas_do_not_meet() -> None:
    layout = lay_out(see(random_image(900, 11)))
    assert layout.overview is not None
    assert layout.overview[0] - layout.canvas_at[0] >= 400
