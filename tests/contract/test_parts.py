# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Every entry of the fusion and connector tables keeps its family's promise."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fila import FilaForConditionalGeneration, FilaVisionModel
from fila.modeling.connector import CONNECTORS, build_connector
from fila.modeling.fusion import FUSIONS
from tests.helpers import assert_close, random_image, randomise, single_tower, tiny_config, tiny_model, tiny_processor
from tests.modeling.geometry import encoder_inputs

# A fusion without a line here fails the first test.
FUSION_SETTINGS: dict[str, dict[str, Any]] = {
    "channel_concat": {"fusion": {"type": "channel_concat"}},
    "cvfm": {"fusion": {"type": "cvfm", "taps": [1, 2, 3, 4]}},
    "none": single_tower(),
}


def encoder(name: str) -> FilaVisionModel:
    model = FilaVisionModel(tiny_config(**FUSION_SETTINGS[name])).eval()
    randomise(model)
    return model


def inputs_for(model: FilaVisionModel, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    return encoder_inputs([(1, 2), (1, 1)], high_res=model.high_res_tower is not None, dtype=dtype)


def test_every_fusion_is_tested() -> None:
    assert set(FUSION_SETTINGS) == set(FUSIONS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", FUSIONS)
def test_fusion_keeps_shape_and_dtype(name: str, dtype: torch.dtype) -> None:
    model = encoder(name).to(dtype)
    features = model(**inputs_for(model)).last_hidden_state
    assert features.shape == (4, 16, model.fusion.output_size)
    assert features.dtype == dtype


@pytest.mark.parametrize("name", FUSIONS)
def test_gradient_reaches_every_parameter(name: str) -> None:
    model = encoder(name)
    model(**inputs_for(model)).last_hidden_state.square().sum().backward()
    silent = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert silent == []


@pytest.mark.parametrize("name", FUSIONS)
@torch.no_grad()
def test_compiled_encoder_equals_eager(name: str) -> None:
    model = encoder(name)
    batch = inputs_for(model)
    expected = model(**batch).last_hidden_state
    compiled = torch.compile(model, backend="aot_eager")
    assert_close(compiled(**batch).last_hidden_state, expected, 1e-5)


@pytest.mark.parametrize("name", FUSIONS)
def test_saved_model_answers_the_same(name: str, tmp_path: Path) -> None:
    model = tiny_model(**FUSION_SETTINGS[name])
    processor = tiny_processor(**({"high_res_size": None} if name == "none" else {}))
    batch = processor(text=["<image> a"], images=[[random_image(20, 50)]], return_tensors="pt")
    model.save_pretrained(tmp_path)
    loaded, report = FilaForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    with torch.no_grad():
        assert torch.equal(loaded(**batch).logits, model(**batch).logits)


@pytest.mark.parametrize("name", CONNECTORS)
def test_connector_makes_as_many_tokens_as_it_promises(name: str) -> None:
    config = tiny_config(connector={"type": name})
    connector = build_connector(config, input_size=20)
    tokens = connector(torch.randn(3, 16, 20))
    assert tokens.shape == (3, connector.tokens_per_tile(config.patch_grid), config.text_config.hidden_size)
