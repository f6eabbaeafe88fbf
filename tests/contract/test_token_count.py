# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Tokens predicted from a size = placeholders in the prompt = features, for every canvas, connector and layout."""

from typing import Any

import numpy as np
import pytest
import torch

from fila import FilaForConditionalGeneration, FilaProcessor
from fila.modeling.connector import CONNECTORS
from fila.modeling.hybrid_encoder import real_view_boxes
from fila.processing.canvas import CANVASES
from fila.processing.canvas_plan import CanvasPlan
from fila.processing.layout import LAYOUTS
from tests.helpers import random_image, single_tower, tiny_canvas, tiny_config, tiny_image_processor, tiny_tokenizer

NUM_SIZES = 30_000  # for each canvas
PATCH = 7


def parts(canvas: str, connector: str, layout: str) -> tuple[FilaForConditionalGeneration, FilaProcessor]:
    options = tiny_canvas(canvas)
    equal_views = tiny_image_processor(canvas=options, high_res_size=None).plans().equal_views
    text = {"image_newline": LAYOUTS[layout].row_newlines, "connector": {"type": connector}}
    config = tiny_config(**text, **({} if equal_views else single_tower()))
    model = FilaForConditionalGeneration(config).eval()
    count = model.model.multi_modal_projector.tokens_per_tile
    tokens = count(config.patch_grid)
    follows_size = count((1, 2)) != count((2, 2))
    images = tiny_image_processor(canvas=options, **({} if equal_views else {"high_res_size": None}))
    return model, FilaProcessor(
        images,
        tiny_tokenizer(),
        tokens_per_tile=tokens,
        token_size=PATCH * config.patch_grid[0] // round(tokens**0.5) if follows_size else None,
        # the tiny tokenizer's placeholder is a tag of MiniCPM-V's
        layout={"type": layout, **dict.fromkeys(tags_with_the_placeholder(layout), "<tag>")},
    )


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


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("connector", CONNECTORS)
@pytest.mark.parametrize("canvas", CANVASES)
@torch.no_grad()
def test_placeholders_are_the_features_the_model_makes(canvas: str, connector: str, layout: str) -> None:
    model, processor = parts(canvas, connector, layout)
    sizes = [*random_sizes(4, 300), (1, 1), (1, 300), (300, 1), (28, 56)]
    samples = [sizes[:3], [], sizes[3:4], sizes[4:]]
    images = [[random_image(*size) for size in own] for own in samples]
    prompts = ["a<image>b" * len(own) for own in samples]
    predicted = processor._get_num_multimodal_tokens(image_sizes=sizes).num_image_tokens
    inputs: Any = processor(text=prompts, images=images, padding=True, return_tensors="pt")
    placeholders = (inputs["input_ids"] == processor.image_token_id).sum(-1).tolist()
    names = set(processor.model_input_names) - {"input_ids", "attention_mask"}
    features = model.get_image_features(**{name: inputs[name] for name in names}).pooler_output
    assert [len(image) for image in features] == predicted
    assert placeholders == [sum(predicted[:3]), 0, predicted[3], sum(predicted[4:])]
    boxes = real_view_boxes(inputs["view_boxes"])
    assert [len(found) for found in boxes] == [processor.image_processor.plan(*size).num_views for size in sizes]
    assert model(**inputs).logits.isfinite().all()
