# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Tokens predicted from a size = placeholders in the prompt = features, for every canvas and connector."""

from typing import Any

import numpy as np
import pytest
import torch

from fila import FilaForConditionalGeneration, FilaProcessor
from fila.modeling.connector import CONNECTORS
from fila.modeling.fusion import FUSIONS
from fila.modeling.hybrid_encoder import real_view_boxes
from fila.processing.canvas import CANVASES
from tests.contract.settings import connector_settings, fitting_processor, fusion_settings
from tests.helpers import random_image, tiny_config

NUM_SIZES = 100_000


def parts(canvas: str, connector: str) -> tuple[FilaForConditionalGeneration, FilaProcessor]:
    model = FilaForConditionalGeneration(tiny_config(**connector_settings(connector))).eval()
    return model, fitting_processor(model, canvas={"type": canvas})


def random_sizes(count: int, largest: int) -> list[tuple[int, int]]:
    """Sides spread evenly over the magnitudes from 1 to `largest`."""
    draw = np.random.default_rng(0).uniform(0, np.log(largest), (count, 2))
    return [(int(height), int(width)) for height, width in np.exp(draw).round()]


@pytest.mark.parametrize("canvas", CANVASES)
def test_predicted_tokens_are_the_placeholders_of_a_hundred_thousand_sizes(canvas: str) -> None:
    _, processor = parts(canvas, "mlp")
    sizes = random_sizes(NUM_SIZES, 60_000)
    predicted = processor._get_num_multimodal_tokens(image_sizes=sizes).num_image_tokens
    token = processor.image_token
    for size, count in zip(sizes, predicted, strict=True):
        boxes = processor.image_processor.plan(*size).view_boxes
        run = processor.replace_image_token({"view_boxes": [np.array(boxes)]}, 0)
        assert len(run) == count * len(token), size


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


@pytest.mark.parametrize("connector", CONNECTORS)
@pytest.mark.parametrize("canvas", CANVASES)
@torch.no_grad()
def test_placeholders_are_the_features_the_model_makes(canvas: str, connector: str) -> None:
    model, processor = parts(canvas, connector)
    sizes = [*random_sizes(40, 300), (1, 1), (1, 300), (300, 1), (28, 28), (28, 56), (56, 56), (57, 56), (84, 28)]
    predicted = processor._get_num_multimodal_tokens(image_sizes=sizes).num_image_tokens
    for index, size in enumerate(sizes):
        inputs: Any = processor(text=["<image>"], images=[[random_image(*size)]], return_tensors="pt")
        placeholders = int((inputs["input_ids"] == processor.image_token_id).sum())
        images = {name: inputs[name] for name in processor.image_processor.model_input_names}
        features = model.get_image_features(**images).pooler_output
        assert [len(image) for image in features] == [placeholders] == [predicted[index]], size
        assert len(real_view_boxes(inputs["view_boxes"])[0]) == processor.image_processor.plan(*size).num_views
