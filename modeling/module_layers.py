# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The layer classes that a model is made of."""

from transformers import PreTrainedModel


def layers_of(model: PreTrainedModel) -> set[str]:
    """Return `_no_split_modules` of a model and its parts, without classes that the model does not contain.

    transformers reads the attribute of direct children only, so it misses towers in a list. accelerate raises an error
    for a class that it does not find in the model.
    """
    names = set(model._no_split_modules or ())
    for part in model.modules():
        names.update(getattr(part, "_no_split_modules", None) or ())
    return names & {type(module).__name__ for module in model.modules()}
