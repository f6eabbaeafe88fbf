# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
from pathlib import Path

import pytest

from fila.conversion.key_rules import apply_rules
from fila.conversion.pretrained_part import Part, open_part
from fila.conversion.rules_text import text_base_prefix, text_config, text_rules
from tests.conversion.parts import write_text


@pytest.mark.parametrize("tied", [True, False])
def test_text_rules_reach_the_models_names(tmp_path: Path, tied: bool) -> None:
    model = write_text(tmp_path, tied=tied)
    keys = [*open_part(tmp_path).tensors, "model.layers.0.self_attn.rotary_emb.inv_freq"]
    if tied:
        keys.append("lm_head.weight")
    plan = apply_rules(keys, text_rules(base_prefix="model", tied=tied), name="text")
    expected = {f"model.language_model.{name}" for name in model.model.state_dict()}
    if not tied:
        expected.add("lm_head.weight")
    assert {move.target for move in plan.moves} == expected
    assert len(plan.dropped) == 1 + tied


def test_text_base_prefix_of_llama(tmp_path: Path) -> None:
    write_text(tmp_path)
    assert text_base_prefix(text_config(open_part(tmp_path))) == "model"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "text part demo has no `model_type`"),
        ({"model_type": "nonesuch"}, "text part demo has model_type 'nonesuch', unknown to transformers"),
        ({"model_type": "llava"}, "text part demo is a 'llava' model. It must be a plain causal language model"),
        ({"model_type": "convnext"}, "text part demo is a 'convnext' model"),
        ({"model_type": "gpt2", "n_embd": 8, "n_head": 2, "n_layer": 1, "vocab_size": 7}, "is a 'gpt2' model"),
    ],
)
def test_text_config_rejects_what_is_no_language_model(
    tmp_path: Path, config: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        text_config(Part("demo", tmp_path, config))


def test_text_config_ignores_keys_that_choose_code(tmp_path: Path) -> None:
    write_text(tmp_path)
    part = open_part(tmp_path)
    config = text_config(Part("demo", tmp_path, {**part.config, "_attn_implementation_internal": "owner/kernel"}))
    assert config._attn_implementation_internal != "owner/kernel"
