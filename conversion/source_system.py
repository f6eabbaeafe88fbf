# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Descriptions of original systems' checkpoints: the layouts of their keys and the settings in their configs."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import AutoConfig

from .assemble import declared
from .key_rules import Drop, KeyTemplate, keys_of

# Legacy settings of a language model that its config class accepts but does not declare.
_ROPE = {"rope_theta", "rope_scaling"}


@dataclass(frozen=True)
class SourceLayout:
    """One naming scheme of the system's weights.

    Attributes:
        name: Name of the layout: where it occurs.
        marker: A key that only this layout has.
        templates: Rules for the keys of a model with the given `FilaConfig`.
        drops: Rules for tensors that our model does not have, with the reasons.
    """

    name: str
    marker: str
    templates: Callable[[Any], Sequence[KeyTemplate]]
    drops: Callable[[Any], Sequence[Drop]] = lambda config: ()


@dataclass(frozen=True)
class Settings:
    """Settings from an original checkpoint's config that override the recipe; None or empty if it has none.

    Attributes:
        low_res, high_res, text: Complete settings of the towers and the language model.
        config: Settings of `FilaConfig`.
        image_processor: Settings of `FilaImageProcessor`.
        prompt: Settings of the recipe's prompt format.
    """

    low_res: Mapping[str, Any] | None = None
    high_res: Mapping[str, Any] | None = None
    text: Mapping[str, Any] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    image_processor: Mapping[str, Any] = field(default_factory=dict)
    prompt: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SourceSystem:
    """An original system whose checkpoints can be imported.

    Attributes:
        name: Name for `fila import --system`.
        recipes: Recipes of its sizes; the first one that fits the weights is used.
        layouts: Naming schemes of its weights.
        settings: Function that reads the original's config.
        refused: Key templates of related systems that cannot be imported, and the reasons.
        text_is_replaced: Why the original's language model cannot be imported, so that another one of its width takes
            its place; empty where it is imported.
    """

    name: str
    recipes: tuple[str, ...]
    layouts: tuple[SourceLayout, ...]
    settings: Callable[[Mapping[str, Any]], Settings]
    refused: Mapping[str, str] = field(default_factory=dict)
    text_is_replaced: str = ""

    def layout_of(self, keys: Iterable[str], name: str) -> SourceLayout:
        """Return the layout whose marker is among `keys`.

        Raises:
            ValueError: If no marker is among `keys` (the message names the markers), or a key belongs to a refused
                system.
        """
        keys = list(keys)
        for template, reason in self.refused.items():
            if found := keys_of(template, keys):
                raise ValueError(f"{name} cannot be imported: {reason}. {len(found)} such keys, e.g. {found[0]!r}.")
        for layout in self.layouts:
            if layout.marker in keys:
                return layout
        markers = ", ".join(f"{layout.marker!r} ({layout.name})" for layout in self.layouts)
        raise ValueError(
            f"{name} is no checkpoint of {self.name}: none of its {len(keys)} keys is one of {markers}. Its first key "
            f"is {keys[0]!r}. Name another `system`."
        )


def sub_config(values: Mapping[str, Any] | None, model_type: str) -> dict[str, Any] | None:
    """Return a tower's or language model's section of a config, without entries that its class does not know.

    Args:
        values: The section, or None.
        model_type: Model type to assume if the section names none.
    """
    if values is None:
        return None
    named = {key: value for key, value in values.items() if not key.startswith("_")}
    kind = str(named.pop("model_type", model_type))
    return _as_declared(kind, named)


def text_fields(values: Mapping[str, Any], model_type: str) -> dict[str, Any] | None:
    """Return the language model's settings from a config that mixes them with others, as in LLaVA's family.

    Returns:
        The settings, or None if the config has none for the language model.
    """
    if "hidden_size" not in values:
        return None
    known = {one.name for one in dataclasses.fields(type(AutoConfig.for_model(model_type)))} | _ROPE
    found = {key: value for key, value in values.items() if key in known and value is not None}
    found.pop("model_type", None)
    return _as_declared(model_type, found)


def _as_declared(model_type: str, values: dict[str, Any]) -> dict[str, Any]:
    return declared(AutoConfig.for_model(model_type, **values))
