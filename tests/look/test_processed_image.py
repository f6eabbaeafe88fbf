# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""What a processor hands on of an image: its own pixels, and where each of its tokens lies on the image."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from fila.look.processed_image import Seen, look
from fila.look.token_strip import prompt_told, segments, sum_told
from fila.look.view_settings import Eyes, open_eyes
from fila.processing.canvas_plan import Box
from fila.processing.layout import NEWLINE
from tests.helpers import PATCH, random_image, tiny_canvas, tiny_processor

COLOUR = (37, 91, 203)


def see(image: Image.Image, **changes: Any) -> Seen:
    return look(Eyes(tiny_processor(**changes), (4, 4), PATCH, "tiny"), image)


def laid_out(canvas: str, layout: dict[str, Any], size: tuple[int, int]) -> Seen:
    return look(open_eyes(canvas=tiny_canvas(canvas), layout=layout, tile=28, patch=7), random_image(*size))


def pixel(picture: Image.Image, x: int, y: int) -> tuple[int, int, int]:
    value = picture.getpixel((x, y))
    assert isinstance(value, tuple)
    return value[0], value[1], value[2]


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


def test_look_joins_the_patches_of_unequal_views() -> None:
    image = random_image(63, 35)
    seen = laid_out("native", {"type": "fila"}, (63, 35))
    assert np.array_equal(np.asarray(seen.views[0]), np.asarray(image))


def test_look_takes_one_number_as_mean_and_deviation() -> None:
    seen = see(Image.new("RGB", (29, 29), COLOUR), image_mean=0.5, image_std=0.25)
    assert pixel(seen.views[0], 3, 5) == COLOUR


def test_look_turns_an_image_upright() -> None:
    lying = random_image(28, 56)
    lying.getexif()[0x0112] = 6
    seen, upright = see(lying), see(lying.transpose(Image.Transpose.ROTATE_270))
    assert (seen.source_size, seen.plan) == (upright.source_size, upright.plan)
    assert seen.source_size == (56, 28)
    assert np.array_equal(np.asarray(seen.image), np.asarray(upright.image))


def test_look_shrinks_as_the_limit_of_the_processor_says() -> None:
    eyes = Eyes(tiny_processor(), (4, 4), PATCH, "tiny")
    eyes.processor.max_image_tokens, eyes.processor.image_token_policy = 50, "shrink_images"
    seen = look(eyes, random_image(53, 97))
    assert seen.num_tokens == 48
    assert seen.source_size == (53, 97)
    assert seen.image.size == (seen.plan.image_size.width, seen.plan.image_size.height) < (97, 53)
    _, last = seen.shown_by(47)
    assert last is not None
    assert (last.bottom, last.right) == (53, 97)


@pytest.mark.parametrize(("size", "share"), [((56, 56), 1.0), ((28, 56), 1.0), ((14, 56), 2 / 3)], ids=str)
def test_real_share_counts_pixels_of_every_view(size: tuple[int, int], share: float) -> None:
    # 14x56 lies on a canvas of 28x56, which is two tiles, half of each padding; the overview has none.
    assert see(random_image(*size)).real_share == pytest.approx(share)


def test_real_share_counts_the_padding_of_an_overview() -> None:
    seen = laid_out("square_pad", {"type": "fila"}, (20, 40))
    assert seen.real_share == pytest.approx(0.5)


def test_a_token_shows_its_cell_of_its_tile() -> None:
    seen = see(random_image(56, 56))
    place, box = seen.shown_by(16 + 16 + 4 + 3)
    assert (place, box) == ((2, 1, 3), Box(7, 49, 14, 56))
    assert seen.tell(39) == "token 39: tile row 1, col 2; in it row 2, col 4; pixels 7, 49 to 14, 56"
    assert seen.tell(0) == "token 0: overview; in it row 1, col 1; pixels 0, 0 to 14, 14"


def test_a_token_on_no_grid_shows_its_view() -> None:
    eyes = Eyes(tiny_processor(), None, PATCH, "tiny")
    seen = look(eyes, random_image(56, 56))
    assert seen.tell(16 + 16 + 5) == "token 37: tile row 1, col 2; in it no. 6; pixels 0, 28 to 28, 56"


def test_a_token_of_padding_shows_nothing() -> None:
    seen = see(random_image(14, 56))
    assert seen.shown_by(16)[1] is None
    assert seen.tell(16) == "token 16: tile row 1, col 1; in it row 1, col 1; padding only"


def test_newlines_show_nothing_and_rows_of_the_map_go_on_in_the_next_tile() -> None:
    seen = laid_out("fila", {"type": "llava_next", "unpad": "no"}, (56, 56))
    assert seen.tokens[24] == NEWLINE
    assert seen.tell(24) == "token 24: newline"
    assert [seen.shown_by(number)[0] for number in (19, 20, 25)] == [(1, 0, 3), (2, 0, 0), (1, 1, 0)]


@pytest.mark.parametrize(
    ("layout", "size", "told", "prompt"),
    [
        ({"type": "fila"}, (56, 56), "5 x 16 = 80", "[1: 16] [2: 16] [3: 16] [4: 16] [5: 16]"),
        ({"type": "llava_next"}, (28, 56), "16 + 32 + 4 newlines = 52", "[1: 16] [tiles: 36]"),
        (
            {"type": "llava_uhd", "overview": "none"},
            (28, 56),
            "2 x 16 = 32",
            "[1: 16] , [2: 16] \\n",
        ),
        (
            {"type": "minicpm_v_2_6"},
            (28, 56),
            "3 x 16 = 48",
            "<image_id> 0 </image_id> <image> [1: 16] </image> <slice> [2: 16] </slice> <slice> [3: 16] </slice>",
        ),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else None,
)
def test_strip_tells_the_prompt(layout: dict[str, Any], size: tuple[int, int], told: str, prompt: str) -> None:
    seen = laid_out("fila", layout, size)
    assert (sum_told(seen), prompt_told(seen)) == (told, prompt)
    assert sum(segment.length for segment in segments(seen)) == seen.num_tokens


def test_strip_tells_a_single_view_and_its_newline() -> None:
    seen = laid_out("single", {"type": "llava_next"}, (53, 97))
    assert sum_told(seen) == "16 + 1 newline = 17"
    assert [segment.label for segment in segments(seen)] == ["1  whole image", "newline"]


def test_views_that_the_layout_leaves_out_have_no_place() -> None:
    assert laid_out("fila", {"type": "llava_uhd"}, (56, 56)).view_order == [1, 2, 3, 4, 0]
    assert laid_out("fila", {"type": "fila", "overview": "none"}, (56, 56)).view_order == [1, 2, 3, 4]
