# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""What is known of an original system's checkpoints: layouts of their keys, and what their config says."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import AutoConfig

from .assemble import declared
from .key_rules import Drop, KeyTemplate, keys_of

# Legacy settings of a language model that its config class takes without declaring them.
_ROPE = {"rope_theta", "rope_scaling"}


@dataclass(frozen=True)
class SourceLayout:
    """One way in which the system's weights were named.

    Attributes:
        name: Where this layout is found.
        marker: A key that only this layout has.
        templates: The keys, for a model of the given `FilaConfig`.
        drops: What has no place here, and why.
    """

    name: str
    marker: str
    templates: Callable[[Any], Sequence[KeyTemplate]]
    drops: Callable[[Any], Sequence[Drop]] = lambda config: ()


@dataclass(frozen=True)
class Settings:
    """What the config of an original checkpoint says beyond the recipe; None or empty where it says nothing.

    Attributes:
        low_res, high_res, text: Settings of the towers and the language model, whole.
        config: Settings of `FilaConfig`.
        image_processor: Settings of `FilaImageProcessor`.
        prompt: Of the recipe's prompt format.
    """

    low_res: Mapping[str, Any] | None = None
    high_res: Mapping[str, Any] | None = None
    text: Mapping[str, Any] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    image_processor: Mapping[str, Any] = field(default_factory=dict)
    prompt: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SourceSystem:
    """A system whose checkpoints can be imported.

    Attributes:
        name: What `fila import --system` calls it.
        recipes: Recipes of its sizes; the first that the weights fit is taken.
        layouts: How its weights were named.
        settings: Reads the original's config.
        refused: Templates of keys of relatives that cannot be imported, and why.
    """

    name: str
    recipes: tuple[str, ...]
    layouts: tuple[SourceLayout, ...]
    settings: Callable[[Mapping[str, Any]], Settings]
    refused: Mapping[str, str] = field(default_factory=dict)

    def layout_of(self, keys: Iterable[str], name: str) -> SourceLayout:
        """The layout that has its marker among `keys`.

        Raises:
            ValueError: If there is none; names the markers. If a key is of a relative that is refused.
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
    """A tower's or language model's own section of a config, without what its class does not know.

    Args:
        values: The section, or None.
        model_type: What it is if it does not say so.
    """
    if values is None:
        return None
    named = {key: value for key, value in values.items() if not key.startswith("_")}
    kind = str(named.pop("model_type", model_type))
    return _as_declared(kind, named)


def text_fields(values: Mapping[str, Any], model_type: str) -> dict[str, Any] | None:
    """The language model's settings out of a config that mixes them with others, as LLaVA's family writes it.

    Returns:
        None if the config says nothing about the language model.
    """
    if "hidden_size" not in values:
        return None
    known = {one.name for one in dataclasses.fields(type(AutoConfig.for_model(model_type)))} | _ROPE
    found = {key: value for key, value in values.items() if key in known and value is not None}
    found.pop("model_type", None)
    return _as_declared(model_type, found)


def _as_declared(model_type: str, values: dict[str, Any]) -> dict[str, Any]:
    return declared(AutoConfig.for_model(model_type, **values))
