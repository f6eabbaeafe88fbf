# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Table of the connectors: the ways from vision width to language-model width."""

from collections.abc import Callable
from typing import Any, Protocol

import torch

from .connector_mlp import MlpConnector
from .options import build_part


class Connector(Protocol):
    """Turns the encoder's features of each view into image tokens.

    Shapes: T views, P patches, D vision width, N image tokens of one view, M language-model width.
    """

    def tokens_per_tile(self, patch_grid: tuple[int, int]) -> int:
        """Image tokens that one view of `patch_grid` (rows, cols) patches becomes."""
        ...

    def __call__(self, features: torch.Tensor, patch_grids: torch.Tensor | None = None) -> torch.Tensor:
        """`(T, P, D) -> (T, N, M)`.

        With `patch_grids` `(T, 2)` the views differ in size: P is that of the view that has most, what lies beyond a
        view's patches is padding, and so is what the result holds beyond its `tokens_per_tile`.
        """
        ...


CONNECTORS: dict[str, Callable[..., Connector]] = {
    "mlp": MlpConnector,
}


def build_connector(config: Any, input_size: int) -> Any:
    """Build the connector that `config.connector` names, for features of `input_size` channels.

    Raises:
        ValueError: If the name, an option or an option's value is not accepted.
    """
    return build_part("connector", CONNECTORS, config.connector, config, input_size=input_size)
