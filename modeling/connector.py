# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Table of the connectors: the ways from vision width to language-model width."""

from collections.abc import Callable
from typing import Any, Protocol

import torch

from .connector_adaptive_resampler import AdaptiveResamplerConnector
from .connector_codebook import CodebookConnector
from .connector_conv_glu import ConvGluConnector
from .connector_dual_path import DualPathConnector
from .connector_identity import IdentityConnector
from .connector_linear import LinearConnector
from .connector_mlp import MlpConnector
from .connector_pixel_shuffle import PixelShuffleConnector
from .connector_resampler import ResamplerConnector
from .connector_stc import (
    SpatialConvConnector,
    SpatialPoolConnector,
    StcConnector,
    StcV35Connector,
    StpConnector,
)
from .options import build_part
from .patch_grid import Grid


class Connector(Protocol):
    """Turns the encoder's features of each view into image tokens.

    What joins the frames of a video has two methods more, see `clips.py`.

    Shapes: T views, P patches, D vision width, N image tokens of one view, M language-model width.
    """

    def tokens_per_tile(self, patch_grid: tuple[int, int]) -> int:
        """Image tokens that one view of `patch_grid` (rows, cols) patches becomes.

        Raises:
            ValueError: If the connector cannot take such a grid.
        """
        ...

    def __call__(self, features: torch.Tensor, grid: Grid) -> torch.Tensor:
        """`(T, P, D) -> (T, N, M)`; see `Grid` for views of different sizes.

        Where grids differ, what the result holds beyond a view's `tokens_per_tile` is padding.
        """
        ...


CONNECTORS: dict[str, Callable[..., Connector]] = {
    "adaptive_resampler": AdaptiveResamplerConnector,
    "codebook": CodebookConnector,
    "conv_glu": ConvGluConnector,
    "dual_path": DualPathConnector,
    "identity": IdentityConnector,
    "linear": LinearConnector,
    "mlp": MlpConnector,
    "pixel_shuffle": PixelShuffleConnector,
    "resampler": ResamplerConnector,
    "spatial_conv": SpatialConvConnector,
    "spatial_pool": SpatialPoolConnector,
    "stc": StcConnector,
    "stc_v35": StcV35Connector,
    "stp": StpConnector,
}


def build_connector(config: Any, input_size: int, options: dict[str, Any] | None = None) -> Any:
    """Build the connector that `config.connector`, or `options` in its place, names.

    Args:
        config: The `FilaConfig`.
        input_size: Channels of the features.
        options: `{"type": name, ...}`.

    Raises:
        ValueError: If the name, an option or an option's value is not accepted.
    """
    options = config.connector if options is None else options
    return build_part("connector", CONNECTORS, options, config, input_size=input_size)
