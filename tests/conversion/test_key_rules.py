# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest
import torch

from fila.conversion.key_rules import Drop, Move, Pair, Rule, Stack, apply_rules, check_targets, export_plan
from fila.conversion.shared_templates import chunked, stacked

RULES: list[Rule] = [
    Drop("head.{rest}", "not used"),
    Pair("body.{i}.w", "layers.{i}.weight"),
    Pair("conv.w", "linear.weight", lambda t: t.flatten(1), lambda t: t[:, :, None, None]),
]
STACKED: list[Rule] = [
    Stack("a.{i}.qkv", ("b.{i}.q", "b.{i}.k", "b.{i}.v"), chunked, stacked),
    Pair("n.{leaf}", "m.{leaf}"),
]


def test_apply_rules_accounts_for_every_key() -> None:
    plan = apply_rules(["body.7.w", "head.a", "conv.w"], RULES, name="demo")
    assert [(move.source, move.target) for move in plan.moves] == [
        ("body.7.w", "layers.7.weight"),
        ("conv.w", "linear.weight"),
    ]
    assert plan.dropped == {"head.a": "not used"}


@pytest.mark.parametrize("key", ["body.7.wx", "xbody.7.w", "body.x.w", "bodyx7.w"])
def test_apply_rules_matches_whole_keys_and_literal_dots_only(key: str) -> None:
    with pytest.raises(RuntimeError, match=rf"1 keys of demo were not consumed, e\.g\. '{key}'"):
        apply_rules(["body.7.w", key], RULES, name="demo")


def test_apply_rules_rejects_two_keys_with_one_target() -> None:
    with pytest.raises(RuntimeError, match=r"'a\.w' and 'b\.w' of demo both become 'c'"):
        apply_rules(["a.w", "b.w"], [Pair("a.w", "c"), Pair("b.w", "c")], name="demo")


def test_apply_rules_takes_the_first_rule_that_matches() -> None:
    plan = apply_rules(["x.1"], [Drop("x.1", "first"), Pair("x.{i}", "y.{i}")], name="demo")
    assert plan.moves == ()
    assert plan.dropped == {"x.1": "first"}


def test_values_and_shapes_go_there_and_back() -> None:
    (move,) = apply_rules(["conv.w"], RULES, name="demo").moves
    source = torch.randn(5, 3, 1, 1)
    assert move.forward is not None
    assert move.shape((5, 3, 1, 1)) == (5, 3)
    origin = export_plan(["linear.weight"], RULES, name="demo")["conv.w"]
    assert torch.equal(origin.function([move.forward(source)]), source)
    assert Move("a", "b", None).shape((2, 3)) == (2, 3)


def test_a_stack_is_split_and_joined() -> None:
    plan = apply_rules(["a.3.qkv", "n.bias"], STACKED, name="demo")
    assert [move.target for move in plan.moves] == ["b.3.q", "b.3.k", "b.3.v", "m.bias"]
    values = torch.arange(6)
    parts = {move.target: move.forward(values) for move in plan.moves if move.forward is not None}
    assert [part.tolist() for part in parts.values()] == [[0, 1], [2, 3], [4, 5]]
    back = export_plan(["b.3.v", "b.3.q", "b.3.k", "m.bias"], STACKED, name="demo")
    assert back["a.3.qkv"].sources == ("b.3.q", "b.3.k", "b.3.v")
    assert torch.equal(back["a.3.qkv"].function([parts[name] for name in back["a.3.qkv"].sources]), values)
    with pytest.raises(RuntimeError, match=r"demo holds only a part of what 'a\.3\.qkv' is made of: \['b\.3\.q'\]"):
        export_plan(["b.3.q"], STACKED, name="demo")


def test_export_plan_names_a_key_as_the_first_of_two_rules_does() -> None:
    rules = [Pair("model.{rest}", "ours.{rest}"), Pair("{rest}", "ours.{rest}")]
    assert [move.target for move in apply_rules(["model.a", "b"], rules, name="demo").moves] == ["ours.a", "ours.b"]
    assert list(export_plan(["ours.a"], rules, name="demo")) == ["model.a"]


@pytest.mark.parametrize(
    ("keys", "rules", "message"),
    [
        (["z"], [Pair("a", "b")], r"1 keys of demo were not consumed, e\.g\. 'z'"),
        (["b"], [Drop("b", "not used")], r"1 keys of demo were not consumed, e\.g\. 'b'"),
        (["b", "c"], [Pair("a", "b"), Pair("a", "c")], r"Keys 'b' and 'c' of demo both become 'a'"),
    ],
)
def test_export_plan_rejects_what_it_cannot_bring_back(keys: list[str], rules: list[Rule], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        export_plan(keys, rules, name="demo")


@pytest.mark.parametrize(
    ("filled", "message"),
    [
        ({"a": (2,), "b": (3,), "c": (5,)}, r"1 tensors have no place in the model, e\.g\. 'c' \(from file c\)"),
        ({"a": (2,)}, r"1 tensors of the model are filled by no part, e\.g\. 'b'"),
        ({"a": (2,), "b": (7,)}, r"'b' must have shape \(3,\); file b gives \(7,\)"),
    ],
)
def test_check_targets_rejects_differences(filled: dict[str, tuple[int, ...]], message: str) -> None:
    origin = {key: f"file {key}" for key in filled}
    with pytest.raises(RuntimeError, match=message):
        check_targets(filled, {"a": (2,), "b": (3,)}, origin=origin)


def test_check_targets_accepts_equal_sets() -> None:
    check_targets({"b": (3,), "a": (2,)}, {"a": (2,), "b": (3,)}, origin={})
