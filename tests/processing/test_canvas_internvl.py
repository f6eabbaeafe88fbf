# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""InternVL's canvas: recorded grids, the order of candidates, pixels."""

import re

import numpy as np
import pytest
import torch

from fila.processing.canvas_internvl import InternvlCanvas, candidate_grids
from fila.processing.canvas_plan import Size
from fila.processing.image_processing_fila import FilaImageProcessorPil
from tests.goldens import rows_of, tensors_of


def test_internvl_golden() -> None:
    checked = 0
    for table in rows_of("internvl_tiling.json"):
        canvases: dict[tuple[int, int, int], InternvlCanvas] = {}
        found = []
        for width, height, fewest, most, side, *_ in table["rows"]:
            key = fewest, most, side
            if key not in canvases:
                canvases[key] = InternvlCanvas(Size(side, side), min_tiles=fewest, max_tiles=most)
            plan = canvases[key](height, width)
            rows, cols = plan.tile_grid
            found.append([width, height, *key, cols, rows, plan.num_views])
        assert found == [row[:8] for row in table["rows"]]
        checked += len(found)
    assert checked >= 1636


def test_internvl_candidates_golden() -> None:
    for table in rows_of("internvl_candidate_order.json"):
        for limits, recorded in table["order"].items():
            fewest, most = map(int, limits.split("-"))
            assert [list(grid) for grid in candidate_grids(fewest, most, "original")] == recorded


@pytest.mark.parametrize("ties", ["original", "lexicographic"])
def test_internvl_ties_golden(ties: str) -> None:
    for cases in rows_of("internvl_set_order_cases.json"):
        for case in cases:
            side = case.get("image_size", 448)
            canvas = InternvlCanvas(Size(side, side), min_tiles=case["min"], max_tiles=case["max"], ties=ties)
            rows, cols = canvas(case["h"], case["w"]).tile_grid
            assert [cols, rows] == case[ties], case


def test_internvl_pixels_golden() -> None:
    for metadata, tensors in tensors_of("internvl_tiles.safetensors"):
        side = int(metadata["image_size"])
        numbers = sorted({int(found[1]) for found in map(re.compile(r"(\d+)\.tiles_u8").match, tensors) if found})
        assert numbers
        for number in numbers:
            limits = {
                option: int(tensors[f"{number}.{recorded}"])
                for option, recorded in (("min_tiles", "min_num"), ("max_tiles", "max_num"))
                if f"{number}.{recorded}" in tensors
            }
            processor = FilaImageProcessorPil(
                size=side,
                canvas={"type": "internvl", **limits},
                high_res_size=None,
                do_rescale=False,
                do_normalize=False,
            )
            views = torch.from_numpy(processor(tensors[f"{number}.image_hwc_u8"].numpy())["pixel_values"][0])
            if len(views) > 1:
                views = torch.cat([views[1:], views[:1]])  # the source appends the thumbnail
            np.testing.assert_array_equal(views, tensors[f"{number}.tiles_u8"].permute(0, 3, 1, 2).float())


def test_eagle2_score_golden() -> None:
    for table in rows_of("eagle2_tiling.json"):
        for most, recorded in table["candidates"].items():
            assert [list(grid) for grid in candidate_grids(1, int(most), "original")] == recorded
        canvases: dict[tuple[int, int], InternvlCanvas] = {}
        for row in table["rows"]:
            width, height, side, most, cols, rows, views = row[:7]
            if (side, most) not in canvases:
                canvases[side, most] = InternvlCanvas(Size(side, side), max_tiles=most, score="eagle2")
            plan = canvases[side, most](height, width)
            assert (plan.tile_grid, plan.num_views) == ((rows, cols), views), row
        for width, height, most, *grids in table["set_order_disagrees"]:
            found = []
            for ties, side in ((ties, side) for ties in ("original", "lexicographic") for side in (448, 512)):
                rows, cols = InternvlCanvas(Size(side, side), max_tiles=most, ties=ties, score="eagle2")(
                    height, width
                ).tile_grid
                found.append([cols, rows])
            # the recordings do not name the side of a tile
            assert grids in (found[::2], found[1::2]), (width, height, most)


def test_eagle2_pixels_golden() -> None:
    for metadata, tensors in tensors_of("eagle2_tiles.safetensors"):
        side = int(metadata["image_size"])
        numbers = sorted({int(found[1]) for found in map(re.compile(r"(\d+)\.tiles").match, tensors) if found})
        assert numbers
        processor = FilaImageProcessorPil(
            size=side,
            canvas={"type": "internvl", "score": "eagle2", "max_tiles": int(metadata["max_num"])},
            high_res_size=None,
            do_rescale=False,
            do_normalize=False,
        )
        for number in numbers:
            made = processor(tensors[f"{number}.image"].numpy())
            assert list(made["tile_grid"][0]) == tensors[f"{number}.grid"].tolist()
            views = torch.from_numpy(made["pixel_values"][0])
            if len(views) > 1:
                views = torch.cat([views[1:], views[:1]])  # the source appends the thumbnail
            np.testing.assert_array_equal(views, tensors[f"{number}.tiles"].permute(0, 3, 1, 2).float())


def test_internvl_tie_takes_the_larger_canvas_above_half_its_pixels() -> None:
    # A square image: 1x1, 2x2 and 3x3 are equally near. Half of 4 and 9 tiles of 100 pixels are 20000 and 45000.
    canvas = InternvlCanvas(Size(100, 100))
    sides = {141: (1, 1), 142: (2, 2), 212: (2, 2), 213: (3, 3)}
    assert {side: canvas(side, side).tile_grid for side in sides} == sides


def test_internvl_without_thumbnail() -> None:
    canvas = InternvlCanvas(Size(448, 448), thumbnail=False)
    assert canvas(800, 1300).overview_size is None


@pytest.mark.parametrize("height", [1, 10_000])
def test_internvl_strips_are_bounded(height: int) -> None:
    plan = InternvlCanvas(Size(448, 448), max_tiles=12)(height, 10_001 - height)
    assert plan.num_views == 13


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_tiles": 0}, r"`canvas.min_tiles` must be a positive integer; got 0\."),
        ({"max_tiles": True}, r"`canvas.max_tiles` must be a positive integer; got True\."),
        ({"min_tiles": 7, "max_tiles": 6}, r"`canvas.min_tiles` must be at most `max_tiles`; got 7 and 6\."),
        ({"thumbnail": 1}, r"`canvas.thumbnail` must be true or false; got 1\."),
        ({"ties": "x"}, r"`canvas.ties` must be one of \['original', 'lexicographic'\]; got 'x'\."),
    ],
    ids=str,
)
def test_internvl_rejects_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InternvlCanvas(Size(448, 448), **options)  # type: ignore[arg-type]
