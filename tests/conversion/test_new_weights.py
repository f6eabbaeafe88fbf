# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import torch

from fila.conversion.new_weights import initial_weights, stored_shapes
from fila.systems.meta_model import model_on_meta
from tests.helpers import tiny_config

MODULES = ["model.vision_tower.fusion", "model.multi_modal_projector"]


def test_initial_weights_are_the_models_own_and_seeded() -> None:
    state = torch.random.get_rng_state()
    first = initial_weights(model_on_meta(tiny_config()), MODULES, seed=3)
    again = initial_weights(model_on_meta(tiny_config()), MODULES, seed=3)
    other = initial_weights(model_on_meta(tiny_config()), MODULES, seed=4)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(
        first["model.multi_modal_projector.linear_1.weight"], other["model.multi_modal_projector.linear_1.weight"]
    )
    assert all(torch.isfinite(tensor).all() for tensor in first.values())
    assert 0.01 < first["model.multi_modal_projector.linear_1.weight"].std() < 0.03
    # FILA's fusion starts as the identity
    assert not first["model.vision_tower.fusion.layers.0.fc2.weight"].any()


def test_initial_weights_of_the_high_res_tower_are_finite() -> None:
    values = initial_weights(model_on_meta(tiny_config()), ["model.vision_tower.high_res_tower"], seed=0)
    assert all(torch.isfinite(tensor).all() for tensor in values.values())
    scale = values["model.vision_tower.high_res_tower.encoder.stages.0.layers.0.layer_scale_parameter"]
    assert torch.equal(scale, torch.full((5,), 1e-6))


def test_initial_weights_leave_the_rest_on_meta() -> None:
    model = model_on_meta(tiny_config())
    initial_weights(model, MODULES, seed=0)
    assert model.lm_head.weight.is_meta


def test_stored_shapes_hold_a_tied_weight_once() -> None:
    text = {**tiny_config().text_config.to_dict(), "tie_word_embeddings": True}
    tied, untied = model_on_meta(tiny_config(text_config=text)), model_on_meta(tiny_config())
    assert set(stored_shapes(untied)) - set(stored_shapes(tied)) == {"lm_head.weight"}
