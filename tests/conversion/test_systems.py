# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The systems' key templates, at real sizes: they give the recorded keys and shapes, and read them back."""

import re

import pytest
import torch

from fila import FilaConfig
from fila.conversion.import_checkpoint import layout_rules
from fila.conversion.key_rules import apply_rules
from fila.conversion.key_templates import Pair, Stack, export_plan, import_rules
from fila.conversion.new_weights import model_on_meta, stored_shapes
from fila.conversion.source_pieces import chunked, intern_lm2, stacked
from fila.conversion.systems import SYSTEMS
from tests.conversion.recorded_keys import RECORDED


def test_every_system_has_recorded_keys() -> None:
    assert {recorded.system for recorded in RECORDED.values()} == set(SYSTEMS)
    assert {recipe for system in SYSTEMS.values() for recipe in system.recipes} == set(RECORDED)


@pytest.mark.parametrize("name", RECORDED)
def test_templates_give_the_recorded_keys_and_shapes(name: str) -> None:
    recorded = RECORDED[name]
    config = FilaConfig.from_recipe(name)
    ours = stored_shapes(model_on_meta(config))
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


def test_a_stack_is_split_and_joined() -> None:
    templates = [Stack("a.{i}.qkv", ("b.{i}.q", "b.{i}.k", "b.{i}.v"), chunked, stacked), Pair("n.{leaf}", "m.{leaf}")]
    plan = apply_rules(["a.3.qkv", "n.bias"], import_rules(templates), name="demo")
    assert [move.target for move in plan.moves] == ["b.3.q", "b.3.k", "b.3.v", "m.bias"]
    values = torch.arange(6)
    parts = {move.target: move.rule.forward(values) for move in plan.moves[:3]}
    assert [part.tolist() for part in parts.values()] == [[0, 1], [2, 3], [4, 5]]
    back = export_plan(["b.3.v", "b.3.q", "b.3.k", "m.bias"], templates, name="demo")
    assert back["a.3.qkv"].sources == ("b.3.q", "b.3.k", "b.3.v")
    assert torch.equal(back["a.3.qkv"].function([parts[name] for name in back["a.3.qkv"].sources]), values)
    with pytest.raises(RuntimeError, match=r"demo holds only a part of what 'a\.3\.qkv' is made of: \['b\.3\.q'\]"):
        export_plan(["b.3.q"], templates, name="demo")


def test_unknown_keys_of_ours_are_refused() -> None:
    with pytest.raises(RuntimeError, match=r"1 keys of demo were not consumed, e\.g\. 'z'"):
        export_plan(["z"], [Pair("a", "b")], name="demo")
