# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""What follows from a model and a canvas together, and what does not fit together."""

from typing import Any

import pytest

from fila.processing.canvas import CANVASES
from fila.processing.layout import build_layout
from fila.systems.compatibility import fitting_settings
from tests.helpers import single_tower, tiny_canvas, tiny_config, tiny_image_processor


def fitting(config: dict[str, Any], canvas: str = "fila", layout: str = "fila", **fields: Any) -> dict[str, Any]:
    single = "high_res_vision_config" in config
    images = tiny_image_processor(canvas=tiny_canvas(canvas), **({"high_res_size": None} if single else {}))
    return fitting_settings(tiny_config(**config), images, build_layout({"type": layout, **fields}))


@pytest.mark.parametrize(
    ("connector", "canvas", "expected"),
    [
        ({"type": "mlp"}, "fila", {"tokens_per_tile": 16}),
        ({"type": "mlp"}, "minicpm", {"tokens_per_tile": 16, "token_size": 7}),
        ({"type": "resampler", "num_queries": 5}, "minicpm", {"tokens_per_tile": 5}),
        ({"type": "adaptive_resampler", "grid_size": 3}, "uhd", {"tokens_per_tile": 9}),
    ],
)
def test_token_settings_follow(connector: dict[str, Any], canvas: str, expected: dict[str, int]) -> None:
    assert fitting(single_tower(connector=connector), canvas) == expected


def test_newline_vectors_need_the_pixels_of_a_token() -> None:
    assert fitting(single_tower(image_newline=True), "llava_next", "llava_next")["token_size"] == 7
    shuffled = single_tower(image_newline=True, connector={"type": "pixel_shuffle"})
    assert fitting(shuffled, "llava_next", "llava_next") == {"tokens_per_tile": 4, "token_size": 14}
    with pytest.raises(ValueError, match="a view of 28 pixels has 3 tokens per row"):
        fitting(
            single_tower(image_newline=True, connector={"type": "adaptive_resampler", "grid_size": 3}),
            "llava_next",
            "llava_next",
        )


@pytest.mark.parametrize("canvas", CANVASES)
def test_padding_is_dropped_around_the_middle_alone(canvas: str) -> None:
    images = tiny_image_processor(canvas=tiny_canvas(canvas), high_res_size=None)
    plan = images.plan(57, 90)
    box, (rows, cols) = plan.content_box, plan.canvas_size
    slack = abs(box.top - (rows - box.bottom)), abs(box.left - (cols - box.right))
    keeps_ratio = abs(box.size.height / box.size.width - 57 / 90) < 0.02
    if plan.num_views == 1 or (max(slack) <= 1 and keeps_ratio):
        fitting(single_tower(image_newline=True), canvas, "llava_next")
        return
    with pytest.raises(ValueError, match=r"`unpad` drops the rows and columns around an image in the middle"):
        fitting(single_tower(image_newline=True), canvas, "llava_next")
    fitting(single_tower(image_newline=True), canvas, "llava_next", unpad="no")


def test_padding_in_a_corner_is_not_dropped() -> None:
    images = tiny_image_processor(canvas={"type": "square_pad", "grid": 2, "fit": "corner"}, high_res_size=None)
    config = tiny_config(**single_tower(image_newline=True))
    with pytest.raises(ValueError, match=r"canvas \{'type': 'square_pad', 'grid': 2, 'fit': 'corner'\} draws it"):
        fitting_settings(config, images, build_layout({"type": "llava_next"}))


def test_rows_are_not_read_out_of_columns() -> None:
    columns = single_tower(image_newline=True, connector={"type": "pixel_shuffle", "order": "v1"})
    with pytest.raises(ValueError, match=r"connector 'pixel_shuffle' .* lie on no grid, or not row by row"):
        fitting(columns, "llava_next", "llava_next")


def test_both_sides_must_agree() -> None:
    with pytest.raises(ValueError, match=r"`row_newlines` needs a model with `image_newline`.*got True and False"):
        fitting(single_tower(), "llava_next", "llava_next")
    with pytest.raises(ValueError, match=r"`slice_positions` and the config's.*got True and 0"):
        fitting(single_tower(), slice_positions=True)
    with pytest.raises(ValueError, match=r"`high_res_size` must be set if and only if.*and None"):
        fitting_settings(tiny_config(**single_tower()), tiny_image_processor(), build_layout({"type": "fila"}))
