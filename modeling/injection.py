# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Table of the injections, which add streams of image features before layers of the language model.

A model without injection, `{"type": "none"}`, has no such part and does not read this file.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import nn

from .configuration_fila import FilaConfig
from .connector import Connector
from .injection_streams import StreamInjection
from .modeling_outputs import FilaImageFeatures, FilaVisionOutput
from .part_options import build_part, check_answers


class Injection(Protocol):
    """Adds streams of image tokens to the hidden states that layers of the language model read.

    A stream has one token per placeholder, as the image tokens have, and in their order.

    Attributes:
        feature_layers: Hidden states of the low-res tower that the encoder returns: 0 is the output of the embeddings,
            i that of layer i, after a tap of the fusion there.
        before: Layers of the language model before which it adds something, counted from 0.
        connectors: The connector of each stream.

    Shapes: T views, P patches, D vision width, B samples, L sequence length, N_i image tokens of image i, M
    language-model width.
    """

    feature_layers: list[int]
    before: tuple[int, ...]
    connectors: nn.ModuleList

    def input_connector(self, config: FilaConfig, fusion: Any) -> Connector:
        """Return the connector whose tokens replace the placeholders; it tells their number in any case."""
        ...

    def attach(self, tower: Any, language_model: nn.Module) -> None:
        """Prepare the language model's layers, and check that the model fits.

        Raises:
            ValueError: If it does not fit.
        """
        ...

    def image_features(
        self, encoded: FilaVisionOutput, laid_out: Callable[..., list[torch.Tensor]], in_runs: bool | None
    ) -> FilaImageFeatures:
        """Return image tokens and streams, made of the encoder's output.

        `laid_out` maps features `(T, P, D)`, a connector and a grid to the tokens `(N_i, M)` of each image.
        """
        ...

    def run(
        self, language_model: nn.Module, placeholders: torch.Tensor, encoded: FilaImageFeatures, **inputs: Any
    ) -> Any:
        """Run the language model and add the streams at the placeholders, `(B, L, 1)` bool."""
        ...


INJECTIONS: dict[str, Callable[..., Injection]] = {
    "streams": StreamInjection,
}


def check_injection(name: str, part: type) -> None:
    """Check that an injection's class declares all members of `Injection`.

    Raises:
        ValueError: If members are missing; the message names them.
    """
    check_answers("injection", name, part, Injection)


def build_injection(config: FilaConfig, fusion: Any) -> Injection:
    """Build the injection that `config.injection` names; the type "none" has no part.

    Args:
        config: The `FilaConfig`.
        fusion: Its `Fusion`.

    Raises:
        ValueError: If the name, an option or an option's value is not accepted, or the streams do not fit the model.
    """
    return build_part("injection", INJECTIONS, config.injection, config, fusion)
