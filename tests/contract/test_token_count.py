# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Tokens predicted from a size = placeholders in the prompt = features, for every canvas, connector and layout."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from fila import FilaForConditionalGeneration, FilaProcessor
from fila.modeling.connector import CONNECTORS
from fila.modeling.fusion import FUSIONS
from fila.modeling.hybrid_encoder import real_view_boxes
from fila.processing.canvas import CANVASES
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

# Connectors that read views of one patch grid.
ONE_GRID = {"conv_glu", "dual_path", "spatial_conv", "spatial_pool", "stc", "stc_v35", "stp"}
# Connectors whose tokens have no rows and columns that a processor could count.
NO_ROWS = ONE_GRID | {"adaptive_resampler", "codebook", "resampler"}
NUM_SIZES = 30_000  # for each canvas


def fits(combination: Combination) -> bool:
    """Whether a canvas, a connector and a layout go together."""
    canvas, connector, layout = combination
    if connector in ONE_GRID and not has_equal_views(tiny_canvas(canvas)):
        return False
    if connector == "pixel_shuffle" and canvas in ("minicpm", "uhd"):
        return False
    return not LAYOUTS[layout].row_newlines or connector not in NO_ROWS or canvas in ("native", "single")


ALL = list(product(CANVASES, CONNECTORS, LAYOUTS))
FITTING = [combination for combination in ALL if fits(combination)]
# Each two that meet in a combination that fits, and each two that meet in one that does not.
CHOSEN = covering(FITTING) + covering([combination for combination in ALL if not fits(combination)])


def parts(canvas: str, connector: str, layout: str) -> tuple[FilaForConditionalGeneration, FilaProcessor]:
    options = tiny_canvas(canvas)
    if (connector, canvas) == ("pixel_shuffle", "native"):
        options["multiple"] = 2  # whole blocks of patches
    equal_views = has_equal_views(options)
    settings = {"image_newline": LAYOUTS[layout].row_newlines, **connector_settings(connector)}
    config = tiny_config(**settings, **({} if equal_views else single_tower()))
    model = FilaForConditionalGeneration(config).eval()
    tokens = model.model.tokens_per_tile
    count = model.model.multi_modal_projector.tokens_per_tile
    follows_size = connector not in ONE_GRID and count((2, 4)) != count((2, 2))
    images = tiny_image_processor(canvas=options, **({} if equal_views else {"high_res_size": None}))
    return model, FilaProcessor(
        images,
        tiny_tokenizer(),
        tokens_per_tile=tokens,
        token_size=PATCH * config.patch_grid[0] // round(tokens**0.5) if follows_size else None,
        # the tiny tokenizer's placeholder is a tag of MiniCPM-V's
        layout={"type": layout, **dict.fromkeys(tags_with_the_placeholder(layout), "<tag>")},
    )


def refusal(processor: FilaProcessor, connector: str, layout: str, sizes: list[tuple[int, int]]) -> str | None:
    """Why a canvas, a connector and a layout do not go together, where they do not."""
    plans = [processor.image_processor.plan(*size) for size in sizes]
    if connector == "pixel_shuffle" and any(
        side % (2 * PATCH) for plan in plans for view in plan.view_sizes for side in view
    ):
        return "must be whole tokens of 14 pixels"
    if processor.token_size is None and LAYOUTS[layout].row_newlines and any(plan.num_views > 1 for plan in plans):
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
    if connector in ONE_GRID and not has_equal_views(processor.image_processor.canvas):
        with pytest.raises(ValueError, match="differ in size"):
            fitting_settings(model.config, processor.image_processor, build_layout({"type": layout}))
        return
    sizes = [*random_sizes(4, 300), (1, 1), (1, 300), (300, 1), (28, 56)]
    samples = [sizes[:3], [], sizes[3:4], sizes[4:]]
    images = [[random_image(*size) for size in own] for own in samples]
    prompts = ["a<image>b" * len(own) for own in samples]
    reason = refusal(processor, connector, layout, sizes)
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
