# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""LLaVA-NeXT's canvas: recorded geometry and pixels."""

from typing import Any

import numpy as np
import pytest
import torch

from fila.processing.canvas_fila import FilaCanvas
from fila.processing.canvas_llava_next import LlavaNextCanvas
from fila.processing.canvas_plan import Size
from fila.processing.image_processing_fila import FilaImageProcessorPil
from tests.goldens import rows_of, tensors_of


def canvas_of(pinpoints: list[list[int]], tile: int) -> LlavaNextCanvas:
    grids = [[height // tile, width // tile] for height, width in pinpoints]
    return LlavaNextCanvas(Size(tile, tile), tile_grids=grids)


def geometry(canvas: LlavaNextCanvas, height: int, width: int) -> dict[str, Any]:
    plan = canvas(height, width)
    top, left, bottom, right = plan.content_box
    return {
        "best_hw": list(plan.canvas_size),
        "grid_hw": list(plan.tile_grid),
        "resized_hw": list(plan.content_box.size),
        "pad_left_top_right_bottom": [left, top, plan.canvas_size.width - right, plan.canvas_size.height - bottom],
        "n_crops": plan.num_views,
    }


def test_llava_next_golden() -> None:
    checked = 0
    for table in rows_of("llava_next_anyres.json"):
        canvas = canvas_of(table["pinpoints_hw"], table["tile"])
        found = [geometry(canvas, row["h"], row["w"]) for row in table["rows"]]
        assert found == [{name: row[name] for name in found[0]} for row in table["rows"]]
        checked += len(found)
    assert checked >= 377


def test_llava_next_golden_with_other_canvas_lists() -> None:
    for sets in rows_of("llava_next_best_resolution_sets.json"):
        for recorded in sets.values():
            tile = np.gcd.reduce(np.array(recorded["pinpoints_hw"]).flatten()).item()
            canvas = canvas_of(recorded["pinpoints_hw"], tile)
            chosen = [[width, height, *canvas(height, width).canvas_size] for width, height, *_ in recorded["rows"]]
            assert chosen == recorded["rows"]


def test_llava_next_is_the_rule_of_that_name() -> None:
    tile = Size(336, 336)
    for size in [(1, 1), (336, 336), (200, 100), (100, 300), (1, 100_000), (337, 1008)]:
        assert LlavaNextCanvas(tile)(*size) == FilaCanvas(tile, rule="llava_next")(*size)


def settings(metadata: dict[str, str], tiles: torch.Tensor) -> dict[str, Any]:
    """`pinpoints` of the metadata as tile grids; the default list where the file names none."""
    tile = tiles.shape[-2]
    canvas: dict[str, Any] = {"type": "llava_next"}
    if "pinpoints" in metadata:
        pinpoints = [
            int(side) for side in metadata["pinpoints"].replace("[", " ").replace("]", " ").replace(",", " ").split()
        ]
        canvas["tile_grids"] = [[h // tile, w // tile] for h, w in zip(pinpoints[::2], pinpoints[1::2], strict=True)]
    return {"size": tile, "high_res_size": None, "canvas": canvas}


def recorded_images() -> list[tuple[dict[str, str], dict[str, torch.Tensor]]]:
    found = []
    for metadata, tensors in tensors_of("llava_next_preprocess.safetensors"):
        for name in tensors:
            if name.endswith(".image_hwc_u8"):
                prefix = name.removesuffix("image_hwc_u8")
                own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
                found.append((metadata, own))
    return found


def test_pil_pixels_golden() -> None:
    for metadata, image in recorded_images():
        tiles = image["original_tiles_u8"]
        processor = FilaImageProcessorPil(**settings(metadata, tiles), do_rescale=False, do_normalize=False)
        views = processor(image["image_hwc_u8"].numpy())["pixel_values"][0]
        np.testing.assert_array_equal(views, tiles.permute(0, 3, 1, 2).float().numpy())


def test_fast_pixels_are_those_of_transformers_on_torchvision() -> None:
    for metadata, image in recorded_images():
        processor = FilaImageProcessorPil(**settings(metadata, image["original_tiles_u8"]), mode="fast")
        views = processor(image["image_hwc_u8"], return_tensors="pt")["pixel_values"][0]
        # The overview of a tall image is resized in the order of Pillow 13's passes, and not of torch's.
        torch.testing.assert_close(views[1:], image["pixel_values"][1:], rtol=0, atol=1e-6)


def test_llava_next_rejects_grids() -> None:
    with pytest.raises(ValueError, match=r"`canvas.tile_grids` must be a list of .*; got \[\[1, 0\]\]\."):
        LlavaNextCanvas(Size(336, 336), tile_grids=[[1, 0]])
