# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""`torch.export` of the vision half: one graph per model, which gives the model's image tokens, or a refusal."""

from typing import Any

import pytest
import torch
from PIL import Image

from fila import FilaForConditionalGeneration, FilaProcessor
from fila.conversion.vision_graph import NotExportableError, export_vision
from fila.modeling.connector import CONNECTORS
from fila.modeling.fusion import FUSIONS
from tests.contract.settings import connector_settings, fusion_settings
from tests.helpers import (
    assert_close,
    random_image,
    single_tower,
    tiny_canvas,
    tiny_image_processor,
    tiny_model,
    tiny_tokenizer,
)
from tests.modeling.tiny_towers import HIGH_RES, LOW_RES, high_res, low_res

SIZES = [(60, 60), (20, 90), (28, 28), (90, 20)]
LIKE = random_image(50, 61)
CONCAT = {"high_res_tile_size": 128, "fusion": {"type": "channel_concat", "align": "bilinear"}}
NEWLINES = {"layout": {"type": "llava_next"}, "token_size": 7}


def canvas_processor(
    model: FilaForConditionalGeneration, canvas: dict[str, Any] | str = "fila", **settings: Any
) -> FilaProcessor:
    """The processor of a canvas for a tiny model."""
    one_tower = {} if model.config.high_res_vision_config is not None else {"high_res_size": None}
    images = tiny_image_processor(canvas=canvas if isinstance(canvas, dict) else tiny_canvas(canvas), **one_tower)
    return FilaProcessor(images, tiny_tokenizer(), tokens_per_tile=model.model.tokens_per_tile, **settings)


@torch.no_grad()
def check_graph(
    model: FilaForConditionalGeneration, processor: FilaProcessor, *, like: Image.Image | None = None
) -> list[str]:
    """Compare the graph's image tokens with the model's; return the names of its inputs."""
    program = export_vision(model, processor, like=like)
    graph, names = program.module(), [*program.graph_signature.user_inputs]
    for seed, size in enumerate(SIZES if like is None else [(like.height, like.width)]):
        batch = processor(text="<image>", images=random_image(*size, seed=seed), return_tensors="pt")
        images = {name: value for name, value in batch.items() if name not in ("input_ids", "attention_mask")}
        (expected,) = model.get_image_features(**images).pooler_output
        assert_close(graph(**{name: batch[name] for name in names}), expected, 1e-5)  # measured: 6e-6
    return names


def test_newlines_and_order_of_the_tokens_are_an_input() -> None:
    model = tiny_model(**single_tower(image_newline=True))
    names = check_graph(model, canvas_processor(model, "llava_next", **NEWLINES))
    assert names == ["pixel_values", "image_token_index"]


def test_an_image_of_one_view_needs_no_graph_of_its_own() -> None:
    model = tiny_model(**single_tower())
    assert check_graph(model, canvas_processor(model, "internvl")) == ["pixel_values"]


def test_views_that_all_images_share_are_constants() -> None:
    model = tiny_model(low_res_views="edges", high_res_overview="interpolate")
    names = check_graph(model, canvas_processor(model, {"type": "square_pad", "grid": 2, "overview": True}))
    assert names == ["pixel_values", "high_res_pixel_values"]


@pytest.mark.nightly  # 5 s
def test_places_of_tiles_are_an_input() -> None:
    model = tiny_model(slice_positions=5, **CONCAT)
    names = check_graph(model, canvas_processor(model, layout={"type": "fila", "slice_positions": True}))
    assert names == ["pixel_values", "high_res_pixel_values", "view_boxes", "view_positions"]


def test_views_are_those_of_a_given_image() -> None:
    model = tiny_model(fusion={"type": "query_gate"})
    assert check_graph(model, canvas_processor(model), like=LIKE) == ["pixel_values", "high_res_pixel_values"]


@pytest.mark.parametrize(
    ("settings", "canvas", "message"),
    [
        (
            {"injection": {"type": "streams", "streams": [{"tap": 1, "before": 0}]}},
            "fila",
            r"the streams of `injection` would be lost",
        ),
        (single_tower(), "minicpm", r"The views of canvas 'minicpm' differ in size"),
        ({"fusion": {"type": "query_gate"}}, "fila", r"Its fusion 'query_gate' reads the views of an image together"),
        ({"low_res_views": "edges"}, "fila", r"`low_res_views` 'edges' resizes parts.* Pass `like`, an image"),
        ({"high_res_overview": "encode"}, "fila", r"`high_res_overview` 'encode' resizes a part of the canvas"),
        (
            single_tower(connector={"type": "adaptive_resampler", "grid_size": 2}),
            "fila",
            r"torch.export found no graph .* connector 'adaptive_resampler': .* Pass `like`",
        ),
    ],
    ids=["injection", "unequal views", "joined views", "low_res_views", "overview", "resampler"],
)
def test_refusals_name_the_setting(settings: dict[str, Any], canvas: str, message: str) -> None:
    model = tiny_model(**settings)
    processor = canvas_processor(model, canvas, **({"token_size": 7} if canvas == "minicpm" else {}))
    with pytest.raises(NotExportableError, match=message):
        export_vision(model, processor)


def test_a_model_of_videos_says_that_they_have_no_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    model, said = tiny_model(high_res_overview="encode"), list[str]()
    model.config.video_token_id = 5
    monkeypatch.setattr("fila.conversion.vision_graph.logger.warning", said.append)
    with pytest.raises(NotExportableError):
        export_vision(model, canvas_processor(model))
    assert said == ["The graph takes images. The model's videos are not exported: they have no graph."]


PARTS = {
    **{f"fusion {name}": fusion_settings(name) for name in FUSIONS},
    **{f"connector {name}": connector_settings(name) for name in CONNECTORS},
    **{f"low-res {name}": single_tower(vision_config=low_res(name)) for name in LOW_RES},
    **{f"high-res {name}": {"high_res_vision_config": high_res(name), **CONCAT} for name in HIGH_RES},
    "three towers": {"extra_vision_configs": [high_res("sam_vision_model"), high_res("convnext")], **CONCAT},
}
OF_ONE_GRID = ("fusion query_gate", "connector adaptive_resampler", "connector codebook")


@pytest.mark.nightly  # three minutes for all
@pytest.mark.parametrize("name", PARTS)
def test_every_part_is_exported(name: str) -> None:
    model = tiny_model(**PARTS[name])
    processor = canvas_processor(model)
    check_graph(model, processor, like=LIKE)
    if name not in OF_ONE_GRID:
        check_graph(model, processor)
