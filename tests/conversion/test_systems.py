# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The systems' key templates, at real sizes: they give the recorded keys and shapes, and read them back."""

import re

import pytest
import torch

from fila import FilaConfig
from fila.conversion.import_checkpoint import layout_rules
from fila.conversion.key_rules import Stack, apply_rules, export_plan
from fila.conversion.new_weights import stored_shapes
from fila.conversion.shared_templates import TEXT, intern_lm2
from fila.conversion.systems import SYSTEMS
from fila.systems.meta_model import model_on_meta
from tests.conversion.recorded_keys import RECORDED
from tests.goldens import rows_of


def test_every_system_has_recorded_keys() -> None:
    assert {recorded.system for recorded in RECORDED.values()} == set(SYSTEMS)
    assert {recipe for system in SYSTEMS.values() for recipe in system.recipes} == set(RECORDED)


@pytest.mark.parametrize("name", RECORDED)
def test_templates_give_the_recorded_keys_and_shapes(name: str) -> None:
    recorded = RECORDED[name]
    config = FilaConfig.from_recipe(name)
    ours = stored_shapes(model_on_meta(config))
    if SYSTEMS[recorded.system].text_is_replaced:
        ours = {key: shape for key, shape in ours.items() if not key.startswith((TEXT, "lm_head."))}
    layout = SYSTEMS[recorded.system].layouts[recorded.layout]
    plan = export_plan(ours, layout.templates(config), name=name)
    unused = set(recorded.keys)
    for key, origin in plan.items():
        found = [pattern for pattern in recorded.keys if re.fullmatch(pattern, key)]
        assert found, f"{key} is not recorded"
        unused -= set(found)
        shape = tuple(origin.function([torch.empty(ours[own], device="meta") for own in origin.sources]).shape)
        assert all(recorded.keys[pattern] in (None, shape) for pattern in found), (key, shape)
    assert not unused
    back = apply_rules(plan, layout_rules(layout, config), name=name)
    assert {move.target for move in back.moves} == set(ours)
    assert not back.dropped


def test_intern_lm2_stacks_group_by_group() -> None:
    config = type("Sizes", (), {"num_attention_heads": 6, "num_key_value_heads": 2})()
    (stack,) = [item for item in intern_lm2("", config) if isinstance(item, Stack)]
    width = 4  # of a head
    tensor = torch.arange(2 * 5 * width).reshape(2, 5, width)  # (group, three queries, key and value, width)
    query, key, value = stack.split(tensor.flatten()[:, None])
    assert query.flatten().tolist() == tensor[:, :3].flatten().tolist()
    assert key.flatten().tolist() == tensor[:, 3].flatten().tolist()
    assert value.flatten().tolist() == tensor[:, 4].flatten().tolist()
    assert torch.equal(stack.join([query, key, value]), tensor.flatten()[:, None])


def test_deepseek_ocr_state_keys_golden() -> None:
    """Every recorded key in both namings: the same tensor of ours, whole or one of three parts of the original's."""
    config = FilaConfig.from_recipe("deepseek-ocr")
    shapes = stored_shapes(model_on_meta(config))
    ours = {key for key in shapes if not key.startswith((TEXT, "lm_head."))}
    own, *in_tree = SYSTEMS["deepseek-ocr"].layouts
    for table in rows_of("deepseek_ocr_state_keys.json"):
        rows = table["rows"]
        plan = apply_rules([key for key, _, _ in rows], layout_rules(own, config), name="the original")
        targets = {
            key: [move.target for move in plan.moves if move.source == key]
            for key in dict.fromkeys(k for k, _, _ in rows)
        }
        assert {target for found in targets.values() for target in found} == ours
        for layout, base in zip(in_tree, ("model.", ""), strict=True):
            keys = [f"{base}{key}" for _, names, _ in rows for key in names]
            second = {
                move.source: move.target for move in apply_rules(keys, layout_rules(layout, config), name="x").moves
            }
            assert all([second[f"{base}{key}"] for key in names] == targets[key_] for key_, names, _ in rows)
        exported = export_plan(ours, own.templates(config), name="ours")
        for key, _, shape in rows:
            sources = [torch.empty(shapes[name], device="meta") for name in exported[key].sources]
            assert list(exported[key].function(sources).shape) == shape, key
        unused = ["model.vision_model.embeddings.patch_embedding.weight", "model.layers.3.mlp.gate.weight"]
        assert set(apply_rules(unused, layout_rules(own, config), name="x").dropped) == set(unused)
