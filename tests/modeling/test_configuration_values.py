# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
from typing import Any

import pytest

from fila import FilaConfig, VarConfig, VarVQConfig
from fila.modeling.configuration_eva02 import Eva02Config
from tests.helpers import tiny_config


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("vision_config", "hidden_size", 0),
        ("vision_config", "num_attention_heads", 0),
        ("vision_config", "patch_size", 0),
        ("vision_config", "num_hidden_layers", -1),
        ("high_res_vision_config", "hidden_sizes", [0, 12, 16, 20]),
        ("high_res_vision_config", "depths", [1, 1, 0, 1]),
        ("text_config", "vocab_size", 0),
        ("text_config", "num_key_value_heads", 0),
    ],
)
def test_sizes_below_one_are_refused(section: str, name: str, value: Any) -> None:
    settings = tiny_config().to_dict()
    settings[section][name] = value
    with pytest.raises(ValueError, match=rf"^`{section}\.{name}` must be at least 1; got "):
        FilaConfig(**settings)


@pytest.mark.parametrize("section", ["vision_config", "high_res_vision_config", "text_config"])
def test_unknown_activations_are_refused(section: str) -> None:
    settings = tiny_config().to_dict()
    settings[section]["hidden_act"] = "gelo"
    message = (
        rf"`{section}\.hidden_act` must be an activation that transformers knows; got 'gelo'; did you mean 'gelu'\?"
    )
    with pytest.raises(ValueError, match=message):
        FilaConfig(**settings)


def test_further_towers_and_configs_that_are_made_are_looked_at() -> None:
    settings = tiny_config().to_dict()
    for extra in (Eva02Config(window_size=4, rope_grid=0), {"model_type": "eva02", "rope_grid": 0}):
        with pytest.raises(ValueError, match=r"`extra_vision_configs\[0\]\.rope_grid` must be at least 1; got 0"):
            FilaConfig(**settings | {"extra_vision_configs": [extra]})


def test_image_tokenizer_and_generator_refuse_them_too() -> None:
    with pytest.raises(ValueError, match=r"`VarVQConfig\.norm_groups` must be at least 1; got 0"):
        VarVQConfig(norm_groups=0)
    with pytest.raises(ValueError, match=r"`VarConfig\.num_attention_heads` must be at least 1; got 0"):
        VarConfig(num_attention_heads=0)
