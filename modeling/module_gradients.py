# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Run a frozen part without keeping activations.

Autograd records nothing if neither weights nor inputs require a gradient. Training code undoes that: gradient
checkpointing keeps the input of every block, frozen or not. PEFT and TRL call `enable_input_require_grads` for it,
which marks the output of every embedding, the low-res tower's too. A frozen tower would then keep all activations
for a gradient that nobody reads.
"""

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar, cast

import torch
from torch import nn

Module = TypeVar("Module")
Inputs = ParamSpec("Inputs")
Output = TypeVar("Output")


def graph_if_needed(
    method: Callable[Concatenate[Module, Inputs], Output],
) -> Callable[Concatenate[Module, Inputs], Output]:
    """Let a module's method build a graph only if a parameter or an input of the module requires a gradient.

    The check runs at every call, so that `requires_grad_` is enough to freeze and unfreeze.
    """

    @functools.wraps(method)
    def wrapped(self: Module, /, *inputs: Inputs.args, **kwargs: Inputs.kwargs) -> Output:
        if not torch.is_grad_enabled() or any(map(_wants_gradient, inputs)):
            return method(self, *inputs, **kwargs)
        if getattr(self, "_is_replica", False):  # a copy made by `nn.DataParallel`, which has no parameters of its own
            return method(self, *inputs, **kwargs)
        if any(parameter.requires_grad for parameter in cast(nn.Module, self).parameters()):
            return method(self, *inputs, **kwargs)
        with torch.no_grad():
            return method(self, *inputs, **kwargs)

    return wrapped


def _wants_gradient(value: object) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_wants_gradient, value))
    return isinstance(value, torch.Tensor) and value.requires_grad
