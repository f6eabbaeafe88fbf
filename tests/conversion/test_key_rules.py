# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest
import torch

from fila.conversion.key_rules import Drop, Rename, Transform, apply_rules, check_targets, forward_shape

RULES = [
    Drop(r"head\..+", "not used"),
    Rename(r"body\.(\d+)\.w", r"layers.\1.weight"),
    Transform(r"conv\.w", "linear.weight", lambda t: t.flatten(1), lambda t: t[:, :, None, None]),
]


def test_apply_rules_accounts_for_every_key() -> None:
    plan = apply_rules(["body.7.w", "head.a", "conv.w"], RULES, name="demo")
    assert [(move.source, move.target) for move in plan.moves] == [
        ("body.7.w", "layers.7.weight"),
        ("conv.w", "linear.weight"),
    ]
    assert plan.dropped == {"head.a": "not used"}


def test_apply_rules_matches_whole_keys_only() -> None:
    with pytest.raises(RuntimeError, match=r"1 keys of demo were not consumed, e\.g\. 'body\.7\.wx'"):
        apply_rules(["body.7.w", "body.7.wx"], RULES, name="demo")


def test_apply_rules_rejects_two_keys_with_one_target() -> None:
    rules = [Rename(r"(?:a|b)\.w", "c")]
    with pytest.raises(RuntimeError, match=r"'a\.w' and 'b\.w' of demo both become 'c'"):
        apply_rules(["a.w", "b.w"], rules, name="demo")


def test_apply_rules_takes_the_first_rule_that_matches() -> None:
    plan = apply_rules(["x.1"], [Drop(r"x\.1", "first"), Rename(r"x\.(.)", r"y.\1")], name="demo")
    assert plan.moves == ()
    assert plan.dropped == {"x.1": "first"}


def test_transform_round_trip() -> None:
    rule = RULES[2]
    assert isinstance(rule, Transform)
    source = torch.randn(5, 3, 1, 1)
    assert forward_shape(rule, (5, 3, 1, 1)) == (5, 3)
    assert torch.equal(rule.backward(rule.forward(source)), source)


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
