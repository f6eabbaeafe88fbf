# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""DeepSeek-OCR's canvas: recorded grids, places and token counts; the padded overview, pixel by pixel."""

from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from fila.processing.canvas_deepseek_ocr import DeepseekOcrCanvas
from fila.processing.canvas_plan import Box, Size
from fila.processing.image_processing_fila import FilaImageProcessorPil
from fila.processing.processing_fila import FilaProcessor
from fila.processing.token_boxes import TokenPlace, token_box, tokens_in
from tests.cases import each
from tests.goldens import rows_of
from tests.helpers import random_image, tiny_tokenizer


def processor_of(tile: int, **options: Any) -> FilaProcessor:
    images = FilaImageProcessorPil(
        size={"height": tile, "width": tile}, high_res_size=None, canvas={"type": "deepseek_ocr", **options}
    )
    return FilaProcessor(images, tiny_tokenizer(), layout="deepseek_ocr", token_size=64)


def test_deepseek_ocr_tiling_golden() -> None:
    checked = 0
    for table in rows_of("deepseek_ocr_tiling.json"):
        columns = table["columns"]
        processors: dict[tuple[int, ...], FilaProcessor] = {}
        for values in table["rows"]:
            row = dict(zip(columns, values, strict=True))
            key = row["tile"], row["base"], row["min"], row["max"]
            if key not in processors:
                options = dict(zip(("overview_size", "min_tiles", "max_tiles"), key[1:], strict=True))
                processors[key] = processor_of(key[0], **options)
            processor, size = processors[key], (row["h"], row["w"])
            plan = processor.image_processor.plan(*size)
            rows, cols = plan.tile_grid
            is_cut = plan.overview_size is not None
            content = plan.content_in_overview if plan.overview_size is not None else plan.content_box
            assert content is not None
            drawn = [row["global_content_h"], row["global_content_w"]]
            edges = [row["global_top"], row["global_left"]]
            for axis, length in enumerate(drawn):
                if length == 0:  # nothing could be drawn; here one pixel is kept
                    drawn[axis], edges[axis] = 1, (row["base"] - 1) // 2
            assert [cols, rows, rows * cols if is_cut else 0] == [row["cols"], row["rows"], row["num_local"]], row
            assert [*content.size, content.top, content.left] == [*drawn, *edges], row
            counts = processor._get_num_multimodal_tokens(image_sizes=[size])
            assert counts.num_image_tokens == [row["num_tokens"]] == [processor._count(plan)], row
            checked += 1
    assert checked >= 598


@each(("side", "tokens"), [(512, 73), (640, 111), (1024, 273), (1280, 421)])
def test_an_image_that_is_not_cut_has_the_published_number_of_tokens(side: int, tokens: int) -> None:
    processor = processor_of(640, overview_size=side)
    assert processor._get_num_multimodal_tokens(image_sizes=[(300, 200)]).num_image_tokens == [tokens]


def test_two_by_three_tiles_have_the_published_number_of_tokens() -> None:
    processor = processor_of(640)
    out: Any = processor(text="<image>", images=random_image(1500, 1000))
    assert processor.image_processor.plan(1500, 1000).tile_grid == (3, 2)
    assert np.asarray(out["input_ids"]).ravel().tolist().count(processor.image_token_id) == 903


@each("rounding", ["floor", "pillow"])
def test_overview_is_the_whole_image_in_the_middle_of_gray(rounding: str) -> None:
    images = FilaImageProcessorPil(
        size={"height": 64, "width": 64},
        high_res_size=None,
        canvas={"type": "deepseek_ocr", "overview_size": 128, "rounding": rounding},
        do_normalize=False,
    )
    for height, width in [(97, 150), (333, 101), (201, 200), (40, 63), (64, 64), (25, 400)]:
        image = random_image(height, width)
        batch: Any = images(image, return_tensors="np")
        rows, cols = batch["patch_grids"][0][0]
        view = batch["pixel_values"][0, 0][:, :, : rows * cols * 16].reshape(3, 16, rows, cols * 16)
        found = (view.transpose(0, 2, 1, 3).reshape(3, 128, 128).transpose(1, 2, 0) * 255).round().astype(np.uint8)
        if rounding == "pillow":
            expected = ImageOps.pad(image, (128, 128), Image.Resampling.BICUBIC, color=(127, 127, 127))
        else:
            scale = 128 / max(height, width)
            drawn = image.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
            expected = Image.new("RGB", (128, 128), (127, 127, 127))
            expected.paste(drawn, ((128 - drawn.width) // 2, (128 - drawn.height) // 2))
        assert np.array_equal(found, np.asarray(expected)), (height, width)


def test_pillows_rounding_is_that_of_image_ops_for_every_size() -> None:
    canvas = DeepseekOcrCanvas(Size(64, 64), overview_size=128, rounding="pillow")
    differ = 0
    for height, width in [(side, other) for side in range(3, 90, 4) for other in range(2, 90, 5)]:
        mask = np.asarray(ImageOps.pad(Image.new("L", (width, height), 255), (128, 128), color=0))
        rows, cols = np.nonzero(mask)
        plan = canvas(height, width)
        box = plan.content_box if plan.overview_size is None else plan.content_in_overview
        assert box == Box(int(rows.min()), int(cols.min()), int(rows.max()) + 1, int(cols.max()) + 1), (height, width)
        other_plan = DeepseekOcrCanvas(Size(64, 64), overview_size=128)(height, width)
        differ += box != (other_plan.content_box if plan.overview_size is None else other_plan.content_in_overview)
    assert differ


def test_without_tiles_a_small_view_is_stretched_and_a_large_one_padded() -> None:
    small = DeepseekOcrCanvas(Size(640, 640), overview_size=512, tiles=False)(3000, 1000)
    large = DeepseekOcrCanvas(Size(640, 640), overview_size=1024, tiles=False)(3000, 1000)
    assert (small.num_views, small.canvas_size, small.content_box) == (1, (512, 512), (0, 0, 512, 512))
    assert (large.num_views, large.canvas_size, large.content_box) == (1, (1024, 1024), (0, 341, 1024, 682))


def test_tokens_of_the_padded_overview_show_their_part_of_the_image() -> None:
    plan = DeepseekOcrCanvas(Size(64, 64), overview_size=128, multiple=2, max_tiles=2)(100, 200)
    grids = [(4, 4), *[(2, 2)] * plan.num_tiles]
    assert plan.content_in_overview == (32, 0, 96, 128)
    assert token_box(plan, TokenPlace(0, 0, 1), (4, 4)) is None  # padding
    assert token_box(plan, TokenPlace(0, 1, 1), (4, 4)) == (0, 50, 50, 100)
    assert plan.tile_grid == (1, 2)
    assert token_box(plan, TokenPlace(2, 1, 0), (2, 2)) == (50, 100, 100, 150)
    assert tokens_in(plan, Box(60, 60, 61, 61), grids) == [(0, 2, 1), (1, 1, 1)]


@each(
    ("options", "message"),
    [
        (
            {"overview_size": 1000},
            r"must be whole blocks of 64 pixels, `patch_size` times `multiple`; tiles have 640 pixels per side, and",
        ),
        ({"patch_size": 14}, r"whole blocks of 56 pixels.*have 640 pixels per side, and the overview 1008"),
        ({"rounding": "up"}, r"`canvas.rounding` must be one of \['floor', 'pillow'\]; got 'up'"),
        ({"tiles": 1}, r"`canvas.tiles` must be true or false; got 1"),
        ({"fill": [1, 2]}, r"`canvas.fill` must be three gray levels of 0..255; got \[1, 2\]"),
        ({"min_tiles": 4, "max_tiles": 3}, r"`canvas.min_tiles` must be at most `max_tiles`; got 4 and 3"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeepseekOcrCanvas(Size(640, 640), **options)(700, 500)
