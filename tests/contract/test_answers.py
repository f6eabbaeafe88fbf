# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Every entry of the tables declares what the rest of the program asks of its family, and means it."""

from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from fila import FilaForConditionalGeneration, FilaProcessor
from fila.look.estimate import Estimator
from fila.look.view_settings import Eyes
from fila.modeling.connector import CONNECTORS, ClipConnector, Connector, build_connector, check_connector
from fila.modeling.connector_resampler import ResamplerConnector
from fila.modeling.fusion import FUSIONS, Fusion, build_fusion, check_fusion
from fila.modeling.part_options import missing_answers
from fila.modeling.towers import (
    HIGH_RES_TOWERS,
    LOW_RES_TOWERS,
    CanvasTower,
    LowResTower,
    ViewTower,
    check_high_res_tower,
    check_low_res_tower,
)
from fila.processing.canvas import CANVASES, Canvas, check_canvas
from fila.processing.canvas_plan import Size
from fila.processing.layout import LAYOUTS, Layout, check_layout
from fila.systems.compatibility import fitting_settings
from tests.contract.settings import connector_settings, fusion_settings
from tests.helpers import random_image, single_tower, tiny_canvas, tiny_config, tiny_image_processor, tiny_tokenizer

TABLES: dict[str, tuple[Any, Any]] = {
    "fusion": (FUSIONS, check_fusion),
    "connector": (CONNECTORS, check_connector),
    "low-res tower": (LOW_RES_TOWERS, check_low_res_tower),
    "high-res tower": (HIGH_RES_TOWERS, check_high_res_tower),
    "canvas": (CANVASES, check_canvas),
    "layout": (LAYOUTS, check_layout),
}
GRIDS = [(4, 4), (4, 6), (6, 4), (8, 8)]


@pytest.mark.parametrize("family", TABLES)
def test_every_part_declares_what_is_asked_of_it(family: str) -> None:
    table, check = TABLES[family]
    for name, part in table.items():
        check(name, part)


@pytest.mark.parametrize("family", [family for family in TABLES if family != "layout"])
def test_part_that_declares_nothing_is_refused_by_the_missing_answers(family: str) -> None:
    _, check = TABLES[family]
    word = {"fusion": "tokens_are_places", "connector": "token_grid", "canvas": "tiles_overlap"}
    with pytest.raises(ValueError, match=rf"'bare', class Bare, does not declare .*'{word.get(family, 'e')}"):
        check("bare", type("Bare", (), {}))
    with pytest.raises(ValueError, match=r"'bare' must be a class; got 3\."):
        check("bare", 3)


def test_part_that_declares_too_little_is_refused_by_the_missing_answers() -> None:
    class Few(nn.Module):
        takes_unequal_views = True
        over_time: str

        def tokens_per_tile(self, patch_grid: tuple[int, int]) -> int:
            return 1

    class Clip(ResamplerConnector):
        over_time = "clip"

    class Inherits(Few, Connector):  # the protocol's own bodies of dots are no answers
        pass

    for part in (Few, Inherits):
        with pytest.raises(ValueError, match=r"Connector 'few', class \w+, does not declare \['patch_block', 'token_"):
            check_connector("few", part)
    with pytest.raises(ValueError, match=r"does not declare \['clip', 'tokens_per_clip', 'window'\]"):
        check_connector("clip", Clip)


def test_canvas_and_tower_declare_what_their_kind_needs() -> None:
    class Unequal(CANVASES["fila"]):  # type: ignore[misc]
        equal_views = False

    class Views(nn.Module):
        encodes_views: ClassVar[bool] = True

    class Whole(Views):
        encodes_views = False

    with pytest.raises(ValueError, match=r"does not declare \['patch_block', 'patch_size'\]"):
        check_canvas("unequal", Unequal)
    with pytest.raises(ValueError, match=r"does not declare \['count_stages', 'stage_shape'\]"):
        check_high_res_tower("views", Views)
    with pytest.raises(ValueError, match=r"does not declare \['count_stages', 'embed', 'run_stages', 'stage_shape'"):
        check_high_res_tower("whole", Whole)


def test_layout_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(ValueError, match="Layout 'own' must be a `Layout`"):
        check_layout("own", {"overview": "first"})
    with pytest.raises(ValueError, match=r"`layout\.overview` must be one of"):
        check_layout("own", Layout(overview="middle"))


@pytest.mark.parametrize("protocol", [Fusion, Connector, ClipConnector, LowResTower, ViewTower, CanvasTower, Canvas])
def test_protocols_ask_something(protocol: Any) -> None:
    assert len(missing_answers(object, protocol)) >= 3


@pytest.mark.parametrize("name", CONNECTORS)
def test_connector_counts_tokens_as_it_declares(name: str) -> None:
    with torch.device("meta"):
        connector: Any = build_connector(tiny_config(**connector_settings(name)), input_size=20)
    counts = [connector.tokens_per_tile(grid) for grid in GRIDS]
    for grid, count in zip(GRIDS, counts, strict=True):
        cells = connector.token_grid(grid)
        assert cells is None or cells[0] * cells[1] == count
        assert connector.patch_block is None or count * connector.patch_block**2 == grid[0] * grid[1]
    if connector.takes_unequal_views:
        sizes = torch.tensor(GRIDS[:3])
        tokens = connector(torch.randn(3, 24, 20, device="meta"), sizes)
        assert tokens.shape[:2] == (3, max(counts[:3]))
        assert connector.patch_block is not None or len(set(counts)) == 1
    else:
        with pytest.raises(ValueError, match="needs views of one patch grid"):
            connector(torch.randn(3, 24, 20, device="meta"), torch.tensor(GRIDS[:3]))


@pytest.mark.parametrize("name", FUSIONS)
def test_fusion_reads_the_towers_that_it_declares(name: str) -> None:
    config = tiny_config(**fusion_settings(name))
    with torch.device("meta"):
        fusion: Any = build_fusion(config)
    assert bool(fusion.taps or fusion.final_stages) == (config.high_res_vision_config is not None)
    assert not fusion.tokens_are_places or fusion.output_grid[0] == fusion.output_grid[1]
    if fusion.needs_high_res_tower:
        assert not fusion.takes_unequal_views
        assert not fusion.takes_cls


class Renamed(ResamplerConnector):
    """The resampler, as a user's package would register it."""


@pytest.mark.parametrize("canvas", ["fila", "minicpm", "native", "uhd"])
@torch.no_grad()
def test_connector_of_any_name_goes_with_every_canvas(canvas: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONNECTORS, "renamed", Renamed)
    check_connector("renamed", Renamed)
    images = tiny_image_processor(canvas=tiny_canvas(canvas), high_res_size=None)
    found = {}
    for name in ("resampler", "renamed"):
        config = tiny_config(**single_tower(connector={"type": name, "num_queries": 5, "num_heads": 4}))
        settings = fitting_settings(config, images, LAYOUTS["fila"])
        processor = FilaProcessor(images, tiny_tokenizer(), **settings)
        inputs: Any = processor(text="<image> a", images=random_image(53, 97), return_tensors="pt")
        model = FilaForConditionalGeneration(config).eval()
        features = model.get_image_features(
            **{name: value for name, value in inputs.items() if name in images.model_input_names}
        ).pooler_output
        placeholders = int((inputs["input_ids"] == processor.image_token_id).sum())
        assert [len(image) for image in features] == [placeholders]
        made = Estimator.of(config, processor).estimate("a", Size(53, 97), tiny_canvas(canvas))
        assert made.num_tokens == placeholders
        grids = Eyes.of(config, processor, "").token_grids(images.plan(53, 97))
        assert set(grids) == {None}
        found[name] = settings, placeholders, made.encoder_flops
    assert found["renamed"] == found["resampler"]
    assert found["renamed"][2] is not None


def test_tiles_that_overlap_are_no_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CANVASES["llava_next"], "tiles_overlap", True)
    config = tiny_config(**single_tower(image_newline=True))
    images = tiny_image_processor(canvas={"type": "llava_next"}, high_res_size=None)
    with pytest.raises(ValueError, match=r"the tiles of canvas \{'type': 'llava_next'\} overlap"):
        fitting_settings(config, images, LAYOUTS["llava_next"])
