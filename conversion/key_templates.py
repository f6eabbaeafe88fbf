# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Key templates: one line of data for a tensor's key in the original's layout and in ours, read in both directions.

A template is a key with holes: `{i}` and `{j}` stand for a number, `{leaf}` for `weight` or `bias`, `{rest}` for
anything. Both templates of a pair have the same holes, so each side follows from the other.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch

from .key_rules import KeyPlan, Move, Rule, Split, TensorFunction, Transform, apply_rules
from .key_rules import Rename as RenameRule

HOLES = {"i": r"\d+", "j": r"\d+", "leaf": r"weight|bias", "rest": r".+"}


@dataclass(frozen=True)
class Pair:
    """One tensor with a key here and a key there.

    Attributes:
        source: Template of the original's key.
        target: Template of our key.
        forward, backward: What is done to the values on the way to us and back; nothing by default.
    """

    source: str
    target: str
    forward: TensorFunction | None = None
    backward: TensorFunction | None = None


@dataclass(frozen=True)
class Stack:
    """One tensor of the original that is several here, such as the stacked query, key and value.

    Attributes:
        source: Template of the original's key.
        targets: Templates of our keys.
        split: From the original's tensor to ours.
        join: Back.
    """

    source: str
    targets: tuple[str, ...]
    split: Callable[[torch.Tensor], Sequence[torch.Tensor]]
    join: Callable[[Sequence[torch.Tensor]], torch.Tensor]


KeyTemplate = Pair | Stack


def pattern_of(template: str) -> str:
    r"""Regular expression of the keys that a template stands for.

    Example:
        >>> pattern_of("layers.{i}.{leaf}")
        'layers\\.(?P<i>\\d+)\\.(?P<leaf>weight|bias)'
    """
    pieces = re.split(r"\{(\w+)\}", template)
    return "".join(f"(?P<{piece}>{HOLES[piece]})" if at % 2 else re.escape(piece) for at, piece in enumerate(pieces))


def expansion_of(template: str) -> str:
    r"""The template as `re.Match.expand` takes it.

    Example:
        >>> expansion_of("layers.{i}.{leaf}")
        'layers.\\g<i>.\\g<leaf>'
    """
    return re.sub(r"\{(\w+)\}", r"\\g<\1>", template)


def import_rules(templates: Iterable[KeyTemplate]) -> list[Rule]:
    """Key rules from the original's layout to ours."""
    rules: list[Rule] = []
    for item in templates:
        pattern = pattern_of(item.source)
        if isinstance(item, Stack):
            rules.append(Split(pattern, tuple(map(expansion_of, item.targets)), item.split))
        elif item.forward is None or item.backward is None:
            rules.append(RenameRule(pattern, expansion_of(item.target)))
        else:
            rules.append(Transform(pattern, expansion_of(item.target), item.forward, item.backward))
    return rules


@dataclass(frozen=True)
class Origin:
    """One tensor of the original's layout and what it is made of.

    Attributes:
        sources: Our keys.
        function: From our tensors to the original's.
    """

    sources: tuple[str, ...]
    function: Callable[[Sequence[torch.Tensor]], torch.Tensor]


def export_plan(keys: Iterable[str], templates: Iterable[KeyTemplate], *, name: str) -> dict[str, Origin]:
    """The original's keys that our keys become, in the order of `keys`.

    Raises:
        RuntimeError: If a key has no template, or a stack is incomplete.
    """
    rules: list[Rule] = []
    stacks: dict[str, Stack] = {}
    items: dict[str, Pair] = {}
    for item in templates:
        targets = item.targets if isinstance(item, Stack) else (item.target,)
        for at, target in enumerate(targets):
            # a stack's members get its key and their number, so that no two targets meet
            mark = f"#{at}" if isinstance(item, Stack) else ""
            rules.append(RenameRule(pattern_of(target), expansion_of(item.source) + mark))
            if isinstance(item, Stack):
                stacks[pattern_of(target)] = item
            else:
                items[pattern_of(target)] = item
    plan: KeyPlan = apply_rules(keys, rules, name=name)
    origins: dict[str, Origin] = {}
    members: dict[str, dict[int, str]] = {}
    for move in plan.moves:
        if move.rule.pattern in items:
            backward = items[move.rule.pattern].backward
            origins[move.target] = Origin((move.source,), _single(backward))
            continue
        key, _, number = move.target.rpartition("#")
        members.setdefault(key, {})[int(number)] = move.source
        stack = stacks[move.rule.pattern]
        if len(members[key]) == len(stack.targets):
            origins[key] = Origin(tuple(source for _, source in sorted(members[key].items())), stack.join)
    if broken := [key for key in members if key not in origins]:
        found = list(members[broken[0]].values())
        raise RuntimeError(f"{name} holds only a part of what {broken[0]!r} is made of: {found}.")
    return origins


def _single(function: TensorFunction | None) -> Callable[[Sequence[torch.Tensor]], torch.Tensor]:
    return lambda tensors: tensors[0] if function is None else function(tensors[0])


__all__ = ["KeyTemplate", "Move", "Origin", "Pair", "Stack", "export_plan", "import_rules"]
