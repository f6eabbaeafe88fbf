# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Tokens predicted from a size = placeholders in the prompt = features, for every canvas, connector and layout."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from fila import FilaForConditionalGeneration, FilaProcessor
from fila.modeling.connector import CONNECTORS, build_connector
from fila.modeling.fusion import FUSIONS
from fila.modeling.image_plan import real_view_boxes
from fila.processing.canvas import CANVASES, all_options
from fila.processing.canvas_plan import CanvasPlan
from fila.processing.layout import LAYOUTS, build_layout
from fila.systems.compatibility import fitting_settings
from tests.contract.settings import connector_settings, fitting_processor, fusion_settings
from tests.helpers import (
    PATCH,
    has_equal_views,
    random_image,
    single_tower,
    tiny_canvas,
    tiny_config,
    tiny_image_processor,
    tiny_tokenizer,
)
from tests.integration.pairwise import Combination, covering

NUM_SIZES = 30_000  # for each canvas


CONNECTOR_PARTS = {name: build_connector(tiny_config(**connector_settings(name)), 20) for name in CONNECTORS}
CANVAS_PARTS = {name: tiny_image_processor(canvas=tiny_canvas(name), high_res_size=None).plans() for name in CANVASES}
ONE_VIEW = {name for name, part in CANVAS_PARTS.items() if part(97, 1000).num_views == 1}


def fits(combination: Combination) -> bool:
    """Whether a canvas, a connector and a layout go together, by what they declare."""
    canvas, connector, _ = combination
    return (
        not refused_views(canvas, connector) and not refused_blocks(canvas, connector) and takes_layout(*combination)
    )


def refused_views(canvas: str, connector: str) -> bool:
    return not (CANVAS_PARTS[canvas].equal_views or CONNECTOR_PARTS[connector].takes_unequal_views)


def refused_blocks(canvas: str, connector: str) -> bool:
    """Whether the views of a canvas are not whole blocks of the patches that a connector joins."""
    block, views = CONNECTOR_PARTS[connector].patch_block, CANVAS_PARTS[canvas]
    return not views.equal_views and block is not None and options_of(canvas, connector).get("multiple", 1) % block > 0


def takes_layout(canvas: str, connector: str, layout: str) -> bool:
    """Whether a processor can lay out the tokens; where there is one view, there is nothing to lay out."""
    has_rows = CONNECTOR_PARTS[connector].patch_block is not None
    asked = LAYOUTS[layout]
    only_views = canvas in ONE_VIEW and not asked.overview_newlines
    return not asked.has_newlines or has_rows or only_views


def options_of(canvas: str, connector: str) -> dict[str, Any]:
    """The tiny options of a canvas, with views of whole blocks where it can make them."""
    options, block = tiny_canvas(canvas), CONNECTOR_PARTS[connector].patch_block
    if not CANVAS_PARTS[canvas].equal_views and "multiple" in all_options(options):
        options["multiple"] = block or 1
    return options


ALL = list(product(CANVASES, CONNECTORS, LAYOUTS))
FITTING = [combination for combination in ALL if fits(combination)]
# Each two that meet in a combination that fits, and each two that meet in one that does not.
CHOSEN = covering(FITTING) + covering([combination for combination in ALL if not fits(combination)])


def parts(canvas: str, connector: str, layout: str) -> tuple[FilaForConditionalGeneration, FilaProcessor]:
    options = options_of(canvas, connector)
    equal_views = has_equal_views(options)
    asked = LAYOUTS[layout]
    settings = {
        "image_newline": asked.has_newlines,
        "view_separator": asked.separator,
        **connector_settings(connector),
    }
    config = tiny_config(**settings, **({} if equal_views else single_tower()))
    model = FilaForConditionalGeneration(config).eval()
    tokens = model.model.tokens_per_tile
    follows_size = model.model.multi_modal_projector.patch_block is not None
    images = tiny_image_processor(canvas=options, **({} if equal_views else {"high_res_size": None}))
    return model, FilaProcessor(
        images,
        tiny_tokenizer(),
        tokens_per_tile=tokens,
        token_size=PATCH * config.patch_grid[0] // round(tokens**0.5) if follows_size else None,
        # the tiny tokenizer's placeholder is a tag of MiniCPM-V's
        layout={"type": layout, **dict.fromkeys(tags_with_the_placeholder(layout), "<tag>")},
    )


def refusal(processor: FilaProcessor, layout: str, sizes: list[tuple[int, int]]) -> str | None:
    """Why a canvas, a connector and a layout do not go together, where they do not."""
    plans, unit = [processor.image_processor.plan(*size) for size in sizes], processor.token_size or 1
    if any(side % unit for plan in plans for view in plan.view_sizes for side in view):
        return f"must be whole tokens of {unit} pixels"
    asked, several = LAYOUTS[layout], any(plan.num_views > 1 for plan in plans)
    if processor.token_size is None and (asked.overview_newlines or (asked.row_newlines and several)):
        return "needs the rows and columns of a tile's tokens"
    return None


def tags_with_the_placeholder(layout: str) -> list[str]:
    return [name for name, text in LAYOUTS[layout].texts.items() if "<image>" in text]


def random_sizes(count: int, largest: int) -> list[tuple[int, int]]:
    """Sides spread evenly over the magnitudes from 1 to `largest`."""
    draw = np.random.default_rng(0).uniform(0, np.log(largest), (count, 2))
    return [(int(height), int(width)) for height, width in np.exp(draw).round()]


def tokens_of(processor: FilaProcessor, plan: CanvasPlan) -> int:
    """The image tokens of a plan, counted view by view."""
    if processor.token_size is None:
        return plan.num_views * processor.tokens_per_tile
    return sum(height * width for height, width in plan.view_sizes) // processor.token_size**2


@pytest.mark.parametrize("canvas", CANVASES)
def test_predicted_tokens_are_those_of_the_views(canvas: str) -> None:
    _, processor = parts(canvas, "mlp", "fila")
    sizes = random_sizes(NUM_SIZES, 60_000)
    predicted = processor._get_num_multimodal_tokens(image_sizes=sizes).num_image_tokens
    plan = processor.image_processor.plans()
    assert predicted == [tokens_of(processor, plan(*size)) for size in sizes]
    assert max(predicted) <= 40 * 16 * 2  # however long the image


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("canvas", CANVASES)
def test_predicted_tokens_are_the_placeholders(canvas: str, layout: str) -> None:
    _, processor = parts(canvas, "mlp", layout)
    sizes = [*random_sizes(15, 300), (1, 1), (1, 300), (300, 1), (28, 28), (28, 56), (57, 56), (84, 28)]
    predicted = processor._get_num_multimodal_tokens(image_sizes=sizes).num_image_tokens
    images = [[random_image(*size)] for size in sizes]
    out: Any = processor(text=["<image>"] * len(sizes), images=images)
    assert [ids.count(processor.image_token_id) for ids in out["input_ids"]] == predicted


@pytest.mark.parametrize("fusion", FUSIONS)
@torch.no_grad()
def test_placeholders_are_the_features_that_each_fusion_makes(fusion: str) -> None:
    model = FilaForConditionalGeneration(tiny_config(**fusion_settings(fusion))).eval()
    processor = fitting_processor(model)
    for size in [(1, 1), (28, 28), (57, 40)]:
        inputs: Any = processor(text=["<image>"], images=[[random_image(*size)]], return_tensors="pt")
        images = {name: inputs[name] for name in processor.image_processor.model_input_names}
        features = model.get_image_features(**images).pooler_output
        assert [len(image) for image in features] == [int((inputs["input_ids"] == processor.image_token_id).sum())]


@pytest.mark.parametrize("combination", CHOSEN, ids="-".join)
@torch.no_grad()
def test_placeholders_are_the_features_the_model_makes(combination: Combination) -> None:
    canvas, connector, layout = combination
    model, processor = parts(canvas, connector, layout)
    if refused_views(canvas, connector):
        with pytest.raises(ValueError, match="differ in size"):
            fitting_settings(model.config, processor.image_processor, build_layout({"type": layout}))
        return
    sizes = [*random_sizes(4, 300), (1, 1), (1, 300), (300, 1), (28, 56)]
    samples = [sizes[:3], [], sizes[3:4], sizes[4:]]
    images = [[random_image(*size) for size in own] for own in samples]
    prompts = ["a<image>b" * len(own) for own in samples]
    reason = refusal(processor, layout, sizes)
    assert (reason is None) == fits(combination)
    if reason is not None:
        with pytest.raises(ValueError, match=reason):
            processor._get_num_multimodal_tokens(image_sizes=sizes)
        with pytest.raises(ValueError, match=reason):
            processor(text=prompts, images=images)
        return
    predicted = processor._get_num_multimodal_tokens(image_sizes=sizes).num_image_tokens
    inputs: Any = processor(text=prompts, images=images, padding=True, return_tensors="pt")
    placeholders = (inputs["input_ids"] == processor.image_token_id).sum(-1).tolist()
    names = set(processor.model_input_names) - {"input_ids", "attention_mask"}
    encoded = model.get_image_features(**{name: inputs[name] for name in names})
    assert [len(image) for image in encoded.pooler_output] == predicted
    assert placeholders == [sum(predicted[:3]), 0, predicted[3], sum(predicted[4:])]
    boxes = real_view_boxes(inputs["view_boxes"])
    assert [len(found) for found in boxes] == [processor.image_processor.plan(*size).num_views for size in sizes]
    text = {name: inputs[name] for name in inputs if name not in names}
    assert model(**text, mm_encoder_outputs={"image": encoded}).logits.isfinite().all()
