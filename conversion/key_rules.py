# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Key rules: every tensor of a source checkpoint is renamed, transformed, split, or dropped with a reason.

Rules are data. A pattern must match the whole key; the first rule that matches decides; a key that no rule matches,
two keys that meet in one target, and a target that nothing fills are errors.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

TensorFunction = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Rename:
    """The tensor keeps its values and gets the key `target` (`re.sub` syntax)."""

    pattern: str
    target: str


@dataclass(frozen=True)
class Transform:
    """The tensor gets the key `target` and the values `forward(tensor)`; `backward` undoes it."""

    pattern: str
    target: str
    forward: TensorFunction
    backward: TensorFunction


@dataclass(frozen=True)
class Drop:
    """The tensor is left behind; `reason` says why and is told to the user."""

    pattern: str
    reason: str


@dataclass(frozen=True)
class Split:
    """The tensor becomes several: each of `targets` gets its part of `forward(tensor)`."""

    pattern: str
    targets: tuple[str, ...]
    forward: Callable[[torch.Tensor], Sequence[torch.Tensor]]

    def parts(self) -> list[Transform]:
        """One rule per target. None of them alone can be undone."""
        return [Transform(self.pattern, target, self._part(at), _not_alone) for at, target in enumerate(self.targets)]

    def _part(self, at: int) -> TensorFunction:
        return lambda tensor: self.forward(tensor)[at]


def _not_alone(tensor: torch.Tensor) -> torch.Tensor:
    raise NotImplementedError("one part of a split tensor")


Rule = Rename | Transform | Drop | Split


@dataclass(frozen=True)
class Move:
    """One source tensor and the key it gets."""

    source: str
    target: str
    rule: Rename | Transform


@dataclass(frozen=True)
class KeyPlan:
    """The full account of one source checkpoint: every key is in `moves` or in `dropped` (key to reason)."""

    moves: tuple[Move, ...]
    dropped: Mapping[str, str]


def apply_rules(keys: Iterable[str], rules: Sequence[Rule], *, name: str) -> KeyPlan:
    r"""Decide the fate of every key.

    Args:
        keys: Keys of the source checkpoint.
        rules: Tried in order; the first whose pattern matches the whole key decides.
        name: What the source is called in messages.

    Returns:
        The account, in the order of `keys`.

    Raises:
        RuntimeError: If a key matches no rule, or two keys get one target.

    Example:
        >>> rules = [Rename(r"vision_model\.(.+)", r"\1"), Drop(r"text_model\..+", "the text side is not used")]
        >>> plan = apply_rules(["vision_model.a", "text_model.b"], rules, name="demo")
        >>> plan.moves[0].target, dict(plan.dropped)
        ('a', {'text_model.b': 'the text side is not used'})
    """
    compiled = [(re.compile(rule.pattern), rule) for rule in rules]
    moves: list[Move] = []
    dropped: dict[str, str] = {}
    unmatched: list[str] = []
    taken: dict[str, str] = {}
    for key in keys:
        for pattern, rule in compiled:
            match = pattern.fullmatch(key)
            if match is None:
                continue
            if isinstance(rule, Drop):
                dropped[key] = rule.reason
                break
            for part in rule.parts() if isinstance(rule, Split) else [rule]:
                target = match.expand(part.target)
                if target in taken:
                    raise RuntimeError(
                        f"Keys {taken[target]!r} and {key!r} of {name} both become {target!r}. One of their rules is "
                        "too wide."
                    )
                taken[target] = key
                moves.append(Move(key, target, part))
            break
        else:
            unmatched.append(key)
    if unmatched:
        raise RuntimeError(
            f"{len(unmatched)} keys of {name} were not consumed, e.g. {unmatched[0]!r}. This is not a layout that "
            "the rules know; add a rule, or a Drop with its reason."
        )
    return KeyPlan(tuple(moves), dropped)


def check_targets(
    filled: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], *, origin: Mapping[str, str]
) -> None:
    """Compare what the sources fill with what the model has: same keys, same shapes.

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


def forward_shape(rule: Rename | Transform, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the target tensor, found without touching any values."""
    if isinstance(rule, Rename):
        return shape
    return tuple(rule.forward(torch.empty(shape, device="meta")).shape)
