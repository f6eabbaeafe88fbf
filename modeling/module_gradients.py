# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""A frozen part keeps no activations.

Autograd by itself records nothing where neither weights nor inputs want a gradient. Training code undoes that:
gradient checkpointing keeps the input of every block, frozen or not, and `enable_input_require_grads`, which PEFT and
TRL call for it, marks the output of every embedding, the low-res tower's too, so that a frozen tower keeps all it
computes for a gradient that nobody reads.
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
    """Let a method of a module record a graph only if the module trains or a tensor given to it wants a gradient.

    It is decided at every call, so that freezing and unfreezing need no more than `requires_grad_`.
    """

    @functools.wraps(method)
    def wrapped(self: Module, /, *inputs: Inputs.args, **kwargs: Inputs.kwargs) -> Output:
        if not torch.is_grad_enabled() or any(map(_wants_gradient, inputs)):
            return method(self, *inputs, **kwargs)
        if getattr(self, "_is_replica", False):  # of `nn.DataParallel`, whose copies have no parameters of their own
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
