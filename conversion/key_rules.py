# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Key rules: data that maps each tensor of an original's layout to ours and back.

A key template is a key with holes: `{i}` and `{j}` stand for a number, `{leaf}` for `weight` or `bias`, `{rest}` for
anything. A template must match the whole key, and the first matching rule applies, in both directions: if two rules
produce the same key of ours, the export uses the first. Errors are: a key that no rule matches, two keys with the same
target, and a target that no key fills.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

TensorFunction = Callable[[torch.Tensor], torch.Tensor]
HOLES = {"i": r"\d+", "j": r"\d+", "leaf": r"weight|bias", "rest": r".+"}


@dataclass(frozen=True)
class Pair:
    """Rule for one tensor of the original that is one tensor of ours.

    Attributes:
        source: Template of the original's key.
        target: Template of our key, with the same holes.
        forward, backward: Transforms of the values on import and on export; the identity by default.
    """

    source: str
    target: str
    forward: TensorFunction | None = None
    backward: TensorFunction | None = None

    @property
    def targets(self) -> tuple[str, ...]:
        """Return the one target."""
        return (self.target,)

    def part(self, at: int) -> TensorFunction | None:
        """Return the transform that makes our tensor; None if the tensor is copied."""
        return self.forward

    def whole(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the original's tensor, made from ours."""
        return tensors[0] if self.backward is None else self.backward(tensors[0])


@dataclass(frozen=True)
class Stack:
    """Rule for one tensor of the original that is several of ours, such as stacked query, key and value.

    Attributes:
        source: Template of the original's key.
        targets: Templates of our keys, with the same holes.
        split: Function from the original's tensor to ours.
        join: Function from our tensors to the original's.
    """

    source: str
    targets: tuple[str, ...]
    split: Callable[[torch.Tensor], Sequence[torch.Tensor]]
    join: Callable[[Sequence[torch.Tensor]], torch.Tensor]

    def part(self, at: int) -> TensorFunction | None:
        """Return the transform that makes our tensor number `at`."""
        return lambda tensor: self.split(tensor)[at]

    def whole(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the original's tensor, made from ours."""
        return self.join(tensors)


@dataclass(frozen=True)
class Drop:
    """Rule for a tensor that is dropped; the model card and messages show `reason`."""

    source: str
    reason: str


KeyTemplate = Pair | Stack
Rule = KeyTemplate | Drop


@dataclass(frozen=True)
class Move:
    """One tensor of ours: the original's key, our key, and the transform of the values (None for a copy)."""

    source: str
    target: str
    forward: TensorFunction | None

    def shape(self, source_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the tensor without reading its values."""
        if self.forward is None:
            return source_shape
        return tuple(self.forward(torch.empty(source_shape, device="meta")).shape)


@dataclass(frozen=True)
class KeyPlan:
    """The fate of every key of one original: it is in `moves` or in `dropped` (key to reason)."""

    moves: tuple[Move, ...]
    dropped: Mapping[str, str]


@dataclass(frozen=True)
class Origin:
    """One tensor of the original's layout and the tensors that it is made of.

    Attributes:
        sources: Our keys.
        function: From our tensors to the original's.
    """

    sources: tuple[str, ...]
    function: Callable[[Sequence[torch.Tensor]], torch.Tensor]


def pattern_of(template: str) -> str:
    r"""Return the regular expression of the keys that a template matches.

    Example:
        >>> pattern_of("layers.{i}.{leaf}")
        'layers\\.(?P<i>\\d+)\\.(?P<leaf>weight|bias)'
    """
    pieces = re.split(r"\{(\w+)\}", template)
    return "".join(f"(?P<{piece}>{HOLES[piece]})" if at % 2 else re.escape(piece) for at, piece in enumerate(pieces))


def keys_of(template: str, keys: Iterable[str]) -> list[str]:
    """The keys that a template stands for."""
    pattern = re.compile(pattern_of(template))
    return [key for key in keys if pattern.fullmatch(key)]


def apply_rules(keys: Iterable[str], rules: Sequence[Rule], *, name: str) -> KeyPlan:
    """Decide what becomes of every key of an original.

    Args:
        keys: Its keys.
        rules: Tried in order; the first whose template matches the whole key decides.
        name: What the original is called in messages.

    Returns:
        The account, in the order of `keys`.

    Raises:
        RuntimeError: If a key matches no rule, or two keys get one target.

    Example:
        >>> rules = [Pair("vision_model.{rest}", "{rest}"), Drop("text_model.{rest}", "the text side is not used")]
        >>> plan = apply_rules(["vision_model.a", "text_model.b"], rules, name="demo")
        >>> plan.moves[0].target, dict(plan.dropped)
        ('a', {'text_model.b': 'the text side is not used'})
    """
    moves: dict[str, Move] = {}
    dropped: dict[str, str] = {}
    for key, number, holes in _matched(keys, [rule.source for rule in rules], name):
        rule = rules[number]
        if isinstance(rule, Drop):
            dropped[key] = rule.reason
            continue
        for at, template in enumerate(rule.targets):
            target = template.format(**holes)
            if target in moves:
                raise RuntimeError(
                    f"Keys {moves[target].source!r} and {key!r} of {name} both become {target!r}. One of their rules "
                    "is too wide."
                )
            moves[target] = Move(key, target, rule.part(at))
    return KeyPlan(tuple(moves.values()), dropped)


def export_plan(keys: Iterable[str], rules: Iterable[Rule], *, name: str) -> dict[str, Origin]:
    """Return the original's keys that our keys become, in the order of `keys`.

    Args:
        keys: Our keys.
        rules: The rules that read the original; dropped tensors cannot be restored.
        name: What the model is called in messages.

    Raises:
        RuntimeError: If a key has no template, two keys become one, or a stack is incomplete.
    """
    kept = [rule for rule in rules if not isinstance(rule, Drop)]
    places = [(rule, at) for rule in kept for at in range(len(rule.targets))]
    found: dict[str, tuple[KeyTemplate, dict[int, str]]] = {}
    for key, number, holes in _matched(keys, [rule.targets[at] for rule, at in places], name):
        rule, at = places[number]
        source = rule.source.format(**holes)
        first, members = found.setdefault(source, (rule, {}))
        if first is not rule or at in members:
            raise RuntimeError(
                f"Keys {next(iter(members.values()))!r} and {key!r} of {name} both become {source!r}. One of their "
                "rules is too wide."
            )
        members[at] = key
    for source, (rule, members) in found.items():
        if len(members) < len(rule.targets):
            raise RuntimeError(f"{name} holds only a part of what {source!r} is made of: {list(members.values())}.")
    return {
        source: Origin(tuple(members[at] for at in sorted(members)), rule.whole)
        for source, (rule, members) in found.items()
    }


def _matched(keys: Iterable[str], templates: Sequence[str], name: str) -> Iterator[tuple[str, int, dict[str, str]]]:
    """Yield each key with the number of its first matching template and the values of the holes."""
    patterns = [re.compile(pattern_of(template)) for template in templates]
    unmatched: list[str] = []
    for key in keys:
        for at, pattern in enumerate(patterns):
            if match := pattern.fullmatch(key):
                yield key, at, match.groupdict()
                break
        else:
            unmatched.append(key)
    if unmatched:
        raise RuntimeError(
            f"{len(unmatched)} keys of {name} were not consumed, e.g. {unmatched[0]!r}. This is not a layout that "
            "the rules know; add a rule, or a Drop with its reason."
        )


def check_targets(
    filled: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], *, origin: Mapping[str, str]
) -> None:
    """Check that the filled targets and the model's tensors have the same keys and shapes.

    Args:
        filled: Target key to shape, over all sources.
        expected: The model's key to shape.
        origin: Target key to a description of its source, for messages.

    Raises:
        RuntimeError: If keys are left over on either side, or a shape differs.
    """
    if strangers := [key for key in filled if key not in expected]:
        raise RuntimeError(
            f"{len(strangers)} tensors have no place in the model, e.g. {strangers[0]!r} (from "
            f"{origin[strangers[0]]}). The part's config does not describe its weights, or they are stored in a "
            "layout of their own; for the latter, load it with transformers and call `save_pretrained(folder, "
            "save_original_format=False)`."
        )
    if missing := [key for key in expected if key not in filled]:
        raise RuntimeError(
            f"{len(missing)} tensors of the model are filled by no part, e.g. {missing[0]!r}. A part's checkpoint is "
            "incomplete, or stores its weights in a layout of its own; load it with transformers and save it again."
        )
    for key, shape in expected.items():
        if tuple(filled[key]) != tuple(shape):
            raise RuntimeError(
                f"{key!r} must have shape {tuple(shape)}; {origin[key]} gives {tuple(filled[key])}. The part's "
                "config does not describe its weights."
            )
