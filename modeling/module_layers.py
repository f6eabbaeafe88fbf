# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Which classes of layers a model is made of."""

from transformers import PreTrainedModel


def layers_of(model: PreTrainedModel) -> set[str]:
    """`_no_split_modules` of a model and all parts inside it, without the names of classes that it does not hold.

    transformers reads them off the direct children, which towers in a list are not; accelerate stops at a class to
    wrap that it does not find in the model.
    """
    names = set(model._no_split_modules or ())
    for part in model.modules():
        names.update(getattr(part, "_no_split_modules", None) or ())
    return names & {type(module).__name__ for module in model.modules()}
