# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Prompt layouts: recorded placeholders, order, newlines, counts."""

import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fila.processing.canvas_llava_next import LlavaNextCanvas
from fila.processing.canvas_minicpm import MinicpmCanvas
from fila.processing.canvas_plan import Size
from fila.processing.canvas_uhd import UhdCanvas
from fila.processing.layout import (
    LAYOUTS,
    NEWLINE,
    SEPARATOR,
    Geometry,
    Layout,
    as_text,
    build_layout,
    count_tokens,
    lay_out,
    slice_positions,
    token_indices,
)
from fila.processing.token_map import drawn_length, unpadded_box
from tests.cases import each
from tests.goldens import numbers_in, rows_of, tensors_of

# Two tiles on top of two, three tokens each, after an overview of two tokens.
FOUR = Geometry(tile_grid=(2, 2), token_counts=(2, 3, 3, 3, 3))
LONE = Geometry(tile_grid=(1, 1), token_counts=(3,))


def text(layout: Layout | str, geometry: Geometry, number: int = 0) -> str:
    chosen = LAYOUTS[layout] if isinstance(layout, str) else layout
    return as_text(lay_out(chosen, geometry, number), ".")


# --- recorded ---


def placeholder(name: str, row: dict[str, Any], **changes: Any) -> str:
    side = row.get("scale_resolution", 448)
    plan = MinicpmCanvas(Size(side, side), max_slices=row.get("max_slice_nums", 9))(row["h"], row["w"])
    geometry = Geometry(plan.tile_grid, (row["feat"],) * plan.num_views)
    layout = build_layout({"type": name, **changes})
    return as_text(lay_out(layout, geometry, row.get("image_idx", 0)), "<unk>")


def test_minicpm_2_6_placeholders_golden() -> None:
    for table in rows_of("minicpmv26_placeholder.json"):
        for row in table["rows"]:
            no_id = {} if row["use_image_id"] else {"image_id_start": "", "image_id_end": ""}
            assert placeholder("minicpm_v_2_6", row, **no_id) == row["text"]


def test_minicpm_2_5_placeholders_golden() -> None:
    for table in rows_of("minicpmv25_placeholder.json"):
        for row in table["rows"]:
            assert placeholder("minicpm_v_2_5", row) == row["text"]


def test_uhd_separators_golden() -> None:
    for table in rows_of("uhd_v1_slicing.json"):
        said = dict(re.findall(r"(scale|patch) (\d+)", table["note"]))
        side, patch = int(said.get("scale", 336)), int(said.get("patch", 14))
        for row in table["rows"]:
            plan = UhdCanvas(Size(side, side), max_slices=row["max"], patch_size=patch)(row["h"], row["w"])
            written = text("llava_uhd", Geometry(plan.tile_grid, (1,) * plan.num_views))
            assert written.replace(".", "").replace("\n", "N") == row["ind"]
            assert written.count(".") == row["n_patches"] + 1
            assert written[-1] == "."  # the overview is last, or alone


def test_llava_next_counts_golden() -> None:
    for table in rows_of("llava_next_anyres.json"):
        tile, side = table["tile"], table["tile"] // table["patch"]
        grids = [[height // tile, width // tile] for height, width in table["pinpoints_hw"]]
        canvas = LlavaNextCanvas(Size(tile, tile), tile_grids=grids)
        for row in table["rows"]:
            plan = canvas(row["h"], row["w"])
            geometry = Geometry(plan.tile_grid, (side * side,) * plan.num_views, plan.image_size, (side, side))
            rows, cols = (side * count for count in plan.tile_grid)
            top, left, bottom, right = unpadded_box(plan.image_size, (rows, cols))
            assert [bottom - top, right - left] == row["unpadded_hw"]
            assert count_tokens(LAYOUTS["llava_next"], geometry) == row["n_tokens"]


def test_unpadding_of_llava_and_of_transformers_golden() -> None:
    for table in rows_of("llava_next_unpad_rounding.json"):
        for width, height, cols, rows, *lengths in table["rows"]:
            wide = width / height > cols / rows
            length, scale = (height, cols / width) if wide else (width, rows / height)
            assert [drawn_length(length, scale, rounded=rounded) for rounded in (False, True)] == lengths


def test_llava_next_order_golden() -> None:
    for metadata, values in tensors_of("llava_next_pack.safetensors"):
        tile, patch = int(metadata["tile"]), int(metadata["patch"])
        sides = [int(side) for side in metadata["pinpoints"].replace("[", "").replace("]", "").split(",")]
        grids = [[h // tile, w // tile] for h, w in zip(sides[::2], sides[1::2], strict=True)]
        canvas = LlavaNextCanvas(Size(tile, tile), tile_grids=grids)
        side = tile // patch
        packed = []
        for size in values["sizes_hw"].tolist():
            plan = canvas(*size)
            geometry = Geometry(plan.tile_grid, (side * side,) * plan.num_views, plan.image_size, (side, side))
            packed.append(token_indices(lay_out(LAYOUTS["llava_next"], geometry)))
        assert [len(tokens) for tokens in packed] == values["lens"].tolist()
        newline = values["image_newline"]
        for number in numbers_in(values, r"(\d+)\.features"):
            features, recorded = values[f"{number}.features"], values[f"{number}.packed"]
            alike = [
                tokens
                for tokens in packed
                if len(tokens) == len(recorded)
                and max(tokens) < features[..., 0].numel()
                and (_gathered(features.flatten(0, 1), newline, tokens) == recorded).all()
            ]
            assert alike, number


def _gathered(tokens: Any, newline: Any, index: list[int]) -> Any:
    gathered = tokens[index].clone()
    gathered[[position for position, value in enumerate(index) if value == NEWLINE]] = newline
    return gathered


# --- by hand ---


def test_presets_write_four_tiles() -> None:
    assert {name: text(name, FOUR) for name in LAYOUTS if not LAYOUTS[name].has_newlines} == {
        "fila": ".." + 4 * "...",
        "internvl": "<img>" + 4 * "..." + "..</img>",
        "leo": "<img>" + 4 * "..." + "..</img>",
        "llava_uhd": "...,...\n...,...\n..",
        "minicpm_v_2_5": "<image>..</image><slice><image>...</image><image>...</image>\n"
        "<image>...</image><image>...</image></slice>",
        "minicpm_v_2_6": "<image_id>0</image_id><image>..</image><slice>...</slice><slice>...</slice>\n"
        "<slice>...</slice><slice>...</slice>",
    }


def test_presets_write_an_image_that_is_not_cut() -> None:
    lone = dataclasses.replace(LONE, overview_token_grid=(1, 3))
    assert {name: text(name, lone, 7) for name in LAYOUTS} == {
        "deepseek_ocr": ".....",  # a newline and a separator vector at the end
        "fila": "...",
        "internvl": "<img>...</img>",
        "leo": "<img>...</img>",
        "llava_next": "....",  # a newline vector at the end
        "llava_uhd": "...",
        "minicpm_v_2_5": "<image>...</image>",
        "minicpm_v_2_6": "<image_id>7</image_id><image>...</image>",
    }


def test_overview_last_and_none_move_and_drop_its_tokens() -> None:
    orders = {
        overview: token_indices(lay_out(build_layout({"type": "fila", "overview": overview}), FOUR))
        for overview in ("first", "last", "none")
    }
    assert orders == {"first": [*range(14)], "last": [*range(2, 14), 0, 1], "none": [*range(2, 14)]}


def test_tiles_without_overview() -> None:
    geometry = Geometry((1, 2), (3, 3))
    assert text("minicpm_v_2_6", geometry) == "<image_id>0</image_id><slice>...</slice><slice>...</slice>"


def test_map_is_read_row_by_row_with_newlines() -> None:
    # Tiles of 2x2 tokens side by side; the second of the overview's four tokens has index 1.
    geometry = Geometry((1, 2), (4, 4, 4), (10, 20), (2, 2))
    layout = build_layout({"type": "llava_next", "unpad": "no"})
    assert token_indices(lay_out(layout, geometry)) == [0, 1, 2, 3, 4, 5, 8, 9, -1, 6, 7, 10, 11, -1]


def test_unpadding_can_leave_no_column_but_newlines() -> None:
    geometry = Geometry((1, 2), (4, 4, 4), (10_000, 1), (2, 2))
    assert token_indices(lay_out(LAYOUTS["llava_next"], geometry)) == [0, 1, 2, 3, -1, -1]


@pytest.mark.parametrize("name", LAYOUTS)
@given(data=st.data())
def test_counts_are_the_tokens_written(name: str, data: st.DataObject) -> None:
    rows, cols, high, wide = (data.draw(st.integers(1, 4)) for _ in range(4))
    has_overview = data.draw(st.booleans())
    changes: dict[str, Any] = {"overview": data.draw(st.sampled_from(["first", "last", "none"]))}
    layout = build_layout({"type": name, **changes})
    whole = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3))) if has_overview else (high, wide)
    counts = (whole[0] * whole[1],) * has_overview + (high * wide,) * (rows * cols)
    size = data.draw(st.tuples(st.integers(1, 500), st.integers(1, 500)))
    geometry = Geometry((rows, cols), counts, size, (high, wide), whole)
    tokens = token_indices(lay_out(layout, geometry))
    assert len(tokens) == count_tokens(layout, geometry) == text(layout, geometry).count(".")
    assert [token for token in tokens if token < NEWLINE] == [SEPARATOR] * layout.separator
    kept = [token for token in tokens if token >= 0]
    assert len(set(kept)) == len(kept)
    assert set(kept) <= set(range(sum(counts)))
    if layout.is_one_run:
        assert tokens == [*range(sum(counts))]


def test_slice_positions_are_rows_and_columns() -> None:
    assert slice_positions(FOUR) == [(-1, -1), (0, 0), (0, 1), (1, 0), (1, 1)]
    assert slice_positions(Geometry((1, 2), (3, 3))) == [(0, 0), (0, 1)]
    assert slice_positions(LONE) == [(-1, -1)]


def test_one_run_is_what_no_text_divides() -> None:
    assert {name for name, layout in LAYOUTS.items() if layout.is_one_run} == {"fila"}
    around = dataclasses.replace(LAYOUTS["fila"], image_start="<img>", image_end="</img>", image_id_start="#")
    assert around.is_one_run
    assert not dataclasses.replace(LAYOUTS["fila"], row_separator="\n").is_one_run


@each(
    ("options", "message"),
    [
        (5, r"`layout` must be a name or a dict such as \{'type': 'fila'\}; got 5\."),
        ("filo", r"`layout\.type` must be one of .*got 'filo'"),
        ({}, r"`layout.type` must be one of \['deepseek_ocr', 'fila', .*\]; got None\."),
        ({"type": "flia"}, r"`layout.type` must be one of \['deepseek_ocr', 'fila', .*\]; got 'flia'\."),
        ({"type": ["fila"]}, r"`layout.type` must be one of \['deepseek_ocr', 'fila', .*\]; got \['fila'\]\."),
        ({"type": "fila", "overveiw": "last"}, r"A layout has no field \['overveiw'\]; it has \['overview', "),
        ({"type": "fila", "overview": "middle"}, r"`layout.overview` must be one of \['first', 'last', 'none'\]; got"),
        ({"type": "fila", "tile_end": None}, r"`layout.tile_end` must be a string; got None\."),
        ({"type": "fila", "row_newlines": 1}, r"`layout.row_newlines` must be true or false; got 1\."),
        (
            {"type": "fila", "unpad": "yes"},
            r"`layout.unpad` must be one of \['no', 'rounded', 'truncated'\]; got 'yes'",
        ),
        ({"type": "fila", "unpad": "rounded"}, r"`layout.unpad` drops rows of the map that `row_newlines` makes; set"),
        ({"type": "llava_next", "tile_end": "x"}, r"`layout.row_newlines` reads all tiles as one map; text around"),
    ],
    ids=str,
)
def test_build_layout_rejects(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_layout(options)


def test_maps_need_the_grid_of_a_tile_and_unpadding_the_size() -> None:
    with pytest.raises(
        ValueError, match=r"needs the rows and columns of a tile's tokens, and .*; set the processor's"
    ):
        count_tokens(LAYOUTS["llava_next"], FOUR)
    with pytest.raises(ValueError, match=r"`layout.unpad` needs the size of the image\."):
        count_tokens(LAYOUTS["llava_next"], Geometry((1, 2), (4, 4, 4), None, (2, 2)))


def test_deepseek_ocr_token_order_golden() -> None:
    checked = 0
    for table in rows_of("deepseek_ocr_token_order.json"):
        for values in table["rows"]:
            row = dict(zip(table["columns"], values, strict=True))
            overview, tile = row["side_global"], row["side_local"]
            num_tiles = row["rows"] * row["cols"]
            geometry = Geometry(
                (row["rows"], row["cols"]) if num_tiles else (1, 1),
                (overview**2, *[tile**2] * num_tiles),
                tile_token_grid=(tile, tile),
                overview_token_grid=(overview, overview),
            )
            tokens = token_indices(lay_out(LAYOUTS["deepseek_ocr"], geometry))
            assert tokens == row["order"]
            assert count_tokens(LAYOUTS["deepseek_ocr"], geometry) == len(tokens)
            checked += 1
    assert checked >= 6


def test_overview_newlines_and_separator_alone() -> None:
    geometry = Geometry((1, 2), (4, 1, 1), tile_token_grid=(1, 1), overview_token_grid=(2, 2))
    for options, expected in (
        ({"overview_newlines": True}, [0, 1, -1, 2, 3, -1, 4, 5]),
        ({"separator": True}, [0, 1, 2, 3, 4, 5, -3]),
        ({"overview": "none", "overview_newlines": True, "separator": True}, [4, 5, -3]),
    ):
        layout = build_layout({"type": "fila", **options})
        tokens = token_indices(lay_out(layout, geometry))
        assert tokens == expected
        assert count_tokens(layout, geometry) == len(tokens)
        assert not layout.is_one_run
    with pytest.raises(ValueError, match=r"`overview_newlines` those of the overview's; set the processor's"):
        lay_out(build_layout({"type": "fila", "overview_newlines": True}), Geometry((1, 1), (4,)))


def test_fields_that_came_later_do_not_part_older_checkpoints() -> None:
    assert "separator" not in LAYOUTS["fila"].settings
    assert build_layout({"type": "fila", "separator": True}).settings["separator"] is True
