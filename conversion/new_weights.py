# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Weights that no part has: the model's own initial values for some of its modules, the rest staying on meta."""

from collections.abc import Iterable

import torch
from transformers import PreTrainedModel


def stored_shapes(model: PreTrainedModel) -> dict[str, tuple[int, ...]]:
    """Key to shape of every tensor that a checkpoint of the model holds, in the model's order.

    A tied weight is held once, under the name of the weight it is tied to.
    """
    tied = set(model.all_tied_weights_keys)
    return {key: tuple(tensor.shape) for key, tensor in model.state_dict().items() if key not in tied}


def initial_weights(model: PreTrainedModel, module_names: Iterable[str], *, seed: int) -> dict[str, torch.Tensor]:
    """Give the named modules memory and the values of the model's `_init_weights`.

    Args:
        model: A model on meta.
        module_names: Sub-modules to initialise.
        seed: Of the random numbers; the global generator is left as it was.

    Returns:
        Full key to values.
    """
    values: dict[str, torch.Tensor] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module_name in module_names:
            module = model.get_submodule(module_name)
            module.to_empty(device="cpu")
            module.apply(model._init_weights)
            values |= {f"{module_name}.{key}": tensor for key, tensor in module.state_dict().items()}
    return values
