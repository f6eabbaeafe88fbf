# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Initial weights of the modules that no part provides; all other modules stay on meta."""

from collections.abc import Iterable

import torch
from transformers import PreTrainedModel


def stored_shapes(model: PreTrainedModel) -> dict[str, tuple[int, ...]]:
    """Return key to shape of every tensor that a checkpoint of the model holds, in the model's order.

    A tied weight is listed once, under the name of the weight that it is tied to.
    """
    tied = set(model.all_tied_weights_keys)
    return {key: tuple(tensor.shape) for key, tensor in model.state_dict().items() if key not in tied}


def initial_weights(model: PreTrainedModel, module_names: Iterable[str], *, seed: int) -> dict[str, torch.Tensor]:
    """Allocate the named modules and initialise them by the model's `_init_weights`.

    Args:
        model: A model on meta.
        module_names: Sub-modules to initialise.
        seed: Random seed; the state of the global generator is restored.

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
