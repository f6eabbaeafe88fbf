# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Adds tensors to the hidden states between the layers of a language model of transformers.

A hook of torch would run inside a checkpointed layer, and again when the backward pass recomputes it, with other
tensors or none. So the layer's class is replaced by a subclass that adds in `__call__`, before checkpointing and every
hook. FSDP2 makes its classes in the same way, and the names of weights and of classes stay.

Shapes: B samples, L sequence length, N image tokens of the batch, M language-model width.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer


class TakesStream:
    """Mixin for a layer of a language model that adds `stream` to its input.

    Attributes:
        stream: Placeholders `(B, L, 1)` bool and the tokens `(N, M)` to add there; None adds nothing.
    """

    stream: tuple[torch.Tensor, torch.Tensor] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Add the stream to the hidden states, and call the layer."""
        if self.stream is not None:
            if args:
                args = (self._added(args[0]), *args[1:])
            else:
                kwargs["hidden_states"] = self._added(kwargs["hidden_states"])
        return cast(Any, super()).__call__(*args, **kwargs)

    def _added(self, hidden_states: torch.Tensor) -> torch.Tensor:
        placeholders, tokens = cast("tuple[torch.Tensor, torch.Tensor]", self.stream)
        shape = *placeholders.shape[:2], tokens.shape[-1]
        if hidden_states.shape != shape:
            raise ValueError(
                f"`injection` adds to hidden states (batch, length, width) of {shape}; {type(self).__name__} reads "
                f"{tuple(hidden_states.shape)}. Choose another language model."
            )
        nothing = torch.zeros_like(hidden_states)
        return hidden_states + nothing.masked_scatter(placeholders.to(nothing.device), tokens.to(nothing))

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle by the class that was extended: the subclass has no name that could be imported."""
        base = next(each for each in type(self).__mro__ if each.__dict__.get("of_layer"))
        return _restored, (base.of_layer,), self.__dict__  # type: ignore[attr-defined]


_EXTENDED: dict[Any, Any] = {}


def _extended(layer: Any) -> Any:
    """Return the one subclass of a layer's class that adds streams."""
    if layer not in _EXTENDED:
        content = {"__module__": layer.__module__, "of_layer": layer}
        _EXTENDED[layer] = type(layer.__name__, (TakesStream, layer), content)
    return _EXTENDED[layer]


def _restored(layer: type[nn.Module]) -> nn.Module:
    made: nn.Module = object.__new__(_extended(layer))
    return made


def decoder_layers(language_model: nn.Module) -> nn.ModuleList:
    """Return the list of a language model's layers.

    Raises:
        ValueError: If there is no such list, or no single one, of layers whose checkpointing transformers does itself.
    """
    depth = getattr(language_model.config, "num_hidden_layers", None)
    lists = [
        part
        for part in language_model.modules()
        if isinstance(part, nn.ModuleList)
        and len(part) == depth
        and all(isinstance(layer, GradientCheckpointingLayer) for layer in part)
    ]
    if len(lists) != 1:
        raise ValueError(
            f"`injection` needs the list of the language model's {depth} layers; {type(language_model).__name__} has "
            f"{len(lists)} such lists. Choose another language model, or `injection` 'none'."
        )
    return lists[0]


def extend_layers(language_model: nn.Module, numbers: Sequence[int]) -> None:
    """Replace the classes of the layers of these numbers, in order of the streams that they will add."""
    layers = decoder_layers(language_model)
    for number in numbers:
        layer: Any = layers[number]
        layer.__class__ = _extended(type(layer))


@torch.compiler.disable(recursive=False)
def run_with_streams(
    language_model: nn.Module,
    numbers: Sequence[int],
    placeholders: torch.Tensor,
    streams: list[torch.Tensor],
    **inputs: Any,
) -> Any:
    """Run a language model whose layers were extended.

    Args:
        language_model: The language model.
        numbers: Layer of each stream, counted from 0.
        placeholders: `(B, L, 1)` bool.
        streams: `(N, M)` for each stream: the tokens of all placeholders, sample by sample.
        inputs: Inputs of the language model.

    Returns:
        The language model's output.
    """
    # FSDP1 puts a module around each layer, and a replica of DataParallel has layers of its own
    layers = [layer for layer in language_model.modules() if isinstance(layer, TakesStream)]
    order = sorted(numbers)
    try:
        for number, tokens in zip(numbers, streams, strict=True):
            layers[order.index(number)].stream = placeholders, tokens
        return language_model(**inputs)
    finally:
        for layer in layers:
            layer.stream = None
