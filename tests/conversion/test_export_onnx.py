# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The vision half as an ONNX file: onnxruntime gives the model's image tokens."""

from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch

import fila
from fila import FilaForConditionalGeneration, FilaProcessor
from fila.conversion.export_onnx import export_onnx
from tests.helpers import assert_close, random_image, tiny_config, tiny_model, tiny_processor

SHIPPED = Path(fila.__file__).parent / "assets" / "default_model"
# six images on five tile grids
SIZES = [(190, 200), (100, 300), (333, 90), (64, 64), (300, 150), (20, 33)]
# one layer and one stage: the conversion takes milliseconds per operation
SMALL = {
    "vision_config": tiny_config().vision_config.to_dict() | {"num_hidden_layers": 1},
    "high_res_vision_config": {"model_type": "convnext", "hidden_sizes": [5], "depths": [1]},
    "fusion": {"type": "cvfm", "taps": [1], "stages": [1], "align": "pool"},
    "vision_feature_layer": -1,
}


def inputs_of(session: onnxruntime.InferenceSession) -> dict[str, list[Any]]:
    return {given.name: given.shape for given in session.get_inputs()}


def check_tokens(
    session: onnxruntime.InferenceSession, model: FilaForConditionalGeneration, processor: FilaProcessor
) -> None:
    """Compare the image tokens of six images on at least three tile grids."""
    grids = set()
    for seed, size in enumerate(SIZES):
        batch = processor.image_processor(random_image(*size, seed=seed), return_tensors="pt")
        grids.add(tuple(batch["tile_grid"][0].tolist()))
        (expected,) = model.get_image_features(**batch).pooler_output
        (found,) = session.run(["image_tokens"], {name: batch[name].numpy() for name in inputs_of(session)})
        assert_close(torch.from_numpy(found), expected, 1e-4)  # measured: 1e-5
    assert len(grids) >= 3


@torch.no_grad()
def test_onnx_file_gives_the_image_tokens_of_any_tile_grid(tmp_path: Path) -> None:
    model, processor = tiny_model(**SMALL), tiny_processor(high_res_size={"height": 16, "width": 16})
    model.save_pretrained(tmp_path / "tiny")
    processor.save_pretrained(tmp_path / "tiny")
    session = onnxruntime.InferenceSession(export_onnx(tmp_path / "tiny", tmp_path / "vision.onnx"))
    assert inputs_of(session) == {
        "pixel_values": [1, "views", 3, 28, 28],
        "high_res_pixel_values": [1, 3, "16*rows", "16*cols"],
        "view_boxes": [1, "views", 4],
    }
    check_tokens(session, model, processor)


@pytest.mark.nightly  # 20 s
@torch.no_grad()
def test_onnx_file_of_the_default_model_gives_its_tokens(tmp_path: Path) -> None:
    session = onnxruntime.InferenceSession(export_onnx(SHIPPED, tmp_path / "vision.onnx"))
    model = FilaForConditionalGeneration.from_pretrained(SHIPPED, dtype=torch.float32).eval()
    check_tokens(session, model, FilaProcessor.from_pretrained(SHIPPED))
