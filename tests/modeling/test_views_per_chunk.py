# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Views in chunks: the features and tokens of the whole, no more views at a time than allowed, bounded memory."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from fila import FilaForConditionalGeneration
from fila.modeling.connector import CONNECTORS
from fila.modeling.fusion import FUSIONS
from fila.modeling.view_layout import VIEWS_PER_CHUNK, chunks_of
from tests.contract.settings import connector_settings, fusion_settings
from tests.helpers import (
    assert_close,
    random_image,
    randomise,
    single_tower,
    tiny_config,
    tiny_image_processor,
    tiny_model,
)
from tests.modeling import views_memory
from tests.modeling.geometry import encoder_inputs
from tests.modeling.tiny_towers import high_res

GRIDS = [(1, 2), (1, 1), (2, 1)]  # 3, 1 and 3 views: chunks of 2 end inside images and across them
SEVERAL: dict[str, Any] = {
    "extra_vision_configs": [high_res("sam_vision_model"), high_res("dinov2")],
    "fusion": {"type": "channel_concat"},
}
PAIRS = [(fusion, connector) for fusion in FUSIONS for connector in ("mlp", "resampler")]
PAIRS += [("cvfm", connector) for connector in CONNECTORS if connector not in ("mlp", "resampler")]


def built(**changes: Any) -> FilaForConditionalGeneration:
    """A model with random weights, and no image long enough for the default to matter."""
    model = FilaForConditionalGeneration(tiny_config(**changes)).eval()
    randomise(model)
    model.model.views_per_chunk = None
    return model


def inputs_for(model: FilaForConditionalGeneration) -> dict[str, torch.Tensor]:
    return encoder_inputs(GRIDS, high_res=model.config.high_res_vision_config is not None)


def assert_chunks_change_nothing(model: FilaForConditionalGeneration, inputs: Any, size: int = 2) -> None:
    whole = model.get_image_features(**inputs)
    model.model.views_per_chunk = size
    chunked = model.get_image_features(**inputs)
    if "patch_grids" not in inputs:  # there, rows beyond a view's patches mean nothing
        assert_close(chunked.last_hidden_state, whole.last_hidden_state)
    for ours, expected in zip(chunked.pooler_output, whole.pooler_output, strict=True):
        assert_close(ours, expected)


@pytest.mark.parametrize(("fusion", "connector"), PAIRS)
@torch.no_grad()
def test_chunks_give_the_tokens_of_the_whole(fusion: str, connector: str) -> None:
    model = built(**(fusion_settings(fusion) | connector_settings(connector)))
    assert_chunks_change_nothing(model, inputs_for(model))


@pytest.mark.parametrize(
    "changes",
    [
        {"high_res_overview": "encode"},
        {"high_res_overview": "interpolate", "fusion": {"type": "patch_info_mining"}},
        {"low_res_views": "edges"},
        single_tower(fusion={"type": "query_gate"}),
        {"vision_feature_select": "cls_patch"} | single_tower(connector={"type": "resampler"}),
        SEVERAL,
    ],
    ids=["encoded overview", "interpolated overview", "views of the canvas", "one tower", "cls", "several towers"],
)
@torch.no_grad()
def test_chunks_give_the_tokens_of_the_whole_with(changes: dict[str, Any]) -> None:
    model = built(**changes)
    assert_chunks_change_nothing(model, inputs_for(model), size=3)


@pytest.mark.parametrize(
    ("canvas", "connector"),
    [("minicpm", "mlp"), ("minicpm", "codebook"), ("native", "adaptive_resampler"), ("native", "pixel_shuffle")],
)
@torch.no_grad()
def test_chunks_give_the_tokens_of_the_whole_for_unequal_views(canvas: str, connector: str) -> None:
    options = {"type": canvas, "patch_size": 7} | ({"multiple": 2, "max_patches": 60} if canvas == "native" else {})
    images = [random_image(25, 70), random_image(60, 20, seed=1), random_image(45, 44, seed=2)]
    inputs = dict(tiny_image_processor(canvas=options, high_res_size=None)(images, return_tensors="pt"))
    boxes = inputs["view_boxes"]
    inputs["view_positions"] = torch.arange(boxes[..., :2].numel()).reshape(boxes[..., :2].shape) - 1
    model = built(slice_positions=40, **single_tower(**connector_settings(connector)))
    assert len({tuple(grid) for grid in inputs["patch_grids"].flatten(0, 1).tolist()} - {(0, 0)}) > 1
    assert_chunks_change_nothing(model, inputs)


def views_seen(model: FilaForConditionalGeneration, **options: Any) -> dict[str, list[int]]:
    """Views per call of what runs on views."""
    tower, seen = model.model.vision_tower, {}
    parts = {"low": tower.low_res_tower.embeddings, "connector": model.model.multi_modal_projector}
    parts |= {f"high {index}": part for index, part in enumerate(tower.extra_towers)}
    for name, part in parts.items():
        seen[name] = []
        part.register_forward_hook(lambda module, inputs, output, own=seen[name]: own.append(len(inputs[0])))
    model.get_image_features(**inputs_for(model), **options)
    return seen


def test_no_more_views_are_run_than_allowed() -> None:
    model = built(**SEVERAL)
    model.model.views_per_chunk = 3
    seen = views_seen(model)
    assert sorted(seen) == ["connector", "high 0", "high 1", "low"]
    assert all(views == [3, 3, 1] for views in seen.values())


def test_fusion_sees_no_more_views_than_allowed_unless_it_joins_them() -> None:
    for fusion, expected in (("patch_info_mining", [3, 3, 1]), ("query_gate", [7])):
        model = built(fusion={"type": fusion})
        model.model.views_per_chunk = 3
        seen: list[int] = []
        part = getattr(model.model.vision_tower.fusion, {"query_gate": "merge"}.get(fusion, "mining"))
        part.register_forward_hook(lambda module, inputs, output, own=seen: own.append(len(inputs[0])))
        model.get_image_features(**inputs_for(model))
        assert seen == expected


def test_training_takes_all_views_at_once() -> None:
    model = built().train()
    model.model.views_per_chunk = 3
    assert views_seen(model) == {"low": [7], "connector": [7]}


def test_recorded_layers_take_all_views_at_once() -> None:
    model = built()
    model.model.views_per_chunk = 3
    seen = views_seen(model, output_hidden_states=True)
    assert seen["low"] == [7]
    found = model.get_image_features(**inputs_for(model), output_hidden_states=True).hidden_states
    assert [len(states) for states in found] == [7] * len(found)


@pytest.fixture
def process_group() -> Iterator[None]:
    """A group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_sharded_weights_take_all_views_at_once() -> None:
    model = built()
    model.model.views_per_chunk = 3
    model.model.multi_modal_projector.linear_1.weight.ds_id = 7  # what DeepSpeed sets
    assert views_seen(model) == {"low": [7], "connector": [7]}


def test_default_is_as_for_frames() -> None:
    model = tiny_model()
    assert model.model.views_per_chunk == model.model.frames_per_chunk == VIEWS_PER_CHUNK


def test_gradients_pass_through_chunks() -> None:
    found = []
    for size in (None, 2):
        model = built()
        model.model.views_per_chunk = size
        torch.cat(list(model.get_image_features(**inputs_for(model)).pooler_output)).square().mean().backward()
        found.append([p.grad for p in model.model.vision_tower.parameters() if p.grad is not None])
    assert found[0]
    for expected, ours in zip(*found, strict=True):
        assert_close(ours, expected, 1e-4)


def test_chunks_of_rejects_no_views() -> None:
    assert chunks_of(7, 3) == [slice(0, 3), slice(3, 6), slice(6, 7)]
    assert chunks_of(7, None) == [slice(0, 7)]
    with pytest.raises(ValueError, match=r"`views_per_chunk` must be at least 1, or None for all views; got 0"):
        chunks_of(7, 0)


def test_memory_of_36_views_in_chunks_is_that_of_4() -> None:
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root), "MALLOC_MMAP_THRESHOLD_": "65536"}  # freed is given back
    command = [sys.executable, "-m", views_memory.__name__]
    printed = subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True, text=True).stdout
    few, chunked, whole, output = json.loads(printed)
    assert chunked <= 1.3 * few
    assert chunked - few <= 2 * output  # measured 18 MiB; the chunks and what they become, 33
    assert whole - few > 6 * output  # measured 194 MiB: what the chunks save
