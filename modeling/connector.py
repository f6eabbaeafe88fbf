# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Table of the connectors, which map vision width to language-model width."""

from collections.abc import Callable
from typing import Any, Protocol

import torch

from .configuration_fila import FilaConfig
from .connector_adaptive_resampler import AdaptiveResamplerConnector
from .connector_codebook import CodebookConnector
from .connector_conv_glu import ConvGluConnector
from .connector_dual_path import DualPathConnector
from .connector_identity import IdentityConnector
from .connector_linear import LinearConnector
from .connector_merger import MergerConnector
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
from .connector_window_qformer import WindowQFormerConnector
from .part_options import build_part, check_answers
from .video_clips import Read, TimeWindow
from .view_patch_grid import Grid


class Connector(Protocol):
    """Turns the encoder's features of each view into image tokens.

    Attributes:
        takes_unequal_views: Whether the views of a batch may differ in size.
        patch_block: Patches per side that become one image token; it counts the tokens of views that differ in size.
            None if all views have the same number of tokens.
        over_time: Treatment of a video's frames: "each" frame gets its own tokens, the connector reads their "mean",
            or it joins them as one "clip" (`ClipConnector`).

    Shapes: T views, P patches, D vision width, N image tokens of one view, M language-model width.
    """

    takes_unequal_views: bool
    patch_block: int | None
    over_time: str

    def tokens_per_tile(self, patch_grid: tuple[int, int]) -> int:
        """Return the number of image tokens of one view of `patch_grid` (rows, cols) patches.

        Raises:
            ValueError: If the connector cannot take such a grid.
        """
        ...

    def token_grid(self, patch_grid: tuple[int, int]) -> tuple[int, int] | None:
        """Return (rows, cols) of the equal cells of a view that its tokens represent, row by row.

        Return None if tokens are not cells: queries, time steps, begin and end vectors, tokens column by column.
        """
        ...

    def __call__(self, features: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Map `(T, P, D)` to `(T, N, M)`; see `Grid` for views of different sizes.

        Where grids differ, rows beyond a view's `tokens_per_tile` are padding.
        """
        ...


class ClipConnector(Connector, Protocol):
    """Joins the frames of a video; see `video_clips.py`.

    Attributes:
        window: The frames that one step of the output sees.
    """

    window: TimeWindow

    def tokens_per_clip(self, num_frames: int, patch_grid: tuple[int, int]) -> int:
        """Return the number of image tokens of a video."""
        ...

    def clip(self, read: Read, num_frames: int, grid: Grid, frames_per_chunk: int | None = None) -> torch.Tensor:
        """Return the tokens `(N, M)` of one video."""
        ...


CONNECTORS: dict[str, Callable[..., Connector]] = {
    "adaptive_resampler": AdaptiveResamplerConnector,
    "codebook": CodebookConnector,
    "conv_glu": ConvGluConnector,
    "dual_path": DualPathConnector,
    "identity": IdentityConnector,
    "linear": LinearConnector,
    "merger": MergerConnector,
    "mlp": MlpConnector,
    "pixel_shuffle": PixelShuffleConnector,
    "resampler": ResamplerConnector,
    "spatial_conv": SpatialConvConnector,
    "spatial_pool": SpatialPoolConnector,
    "stc": StcConnector,
    "stc_v35": StcV35Connector,
    "stp": StpConnector,
    "window_qformer": WindowQFormerConnector,
}


def check_connector(name: str, part: type) -> None:
    """Check that a connector's class declares all members of `Connector`, or of `ClipConnector` if it joins frames.

    Raises:
        ValueError: If members are missing; the message names them.
    """
    joins_frames = getattr(part, "over_time", None) == "clip"
    check_answers("connector", name, part, ClipConnector if joins_frames else Connector)


def build_connector(config: FilaConfig, input_size: int, options: dict[str, Any] | None = None) -> Connector:
    """Build the connector that `config.connector` names, or `options` if given.

    Args:
        config: The `FilaConfig`.
        input_size: Channels of the features.
        options: `{"type": name, ...}`.

    Raises:
        ValueError: If the name, an option or an option's value is not accepted.
    """
    options = config.connector if options is None else options
    return build_part("connector", CONNECTORS, options, config, input_size=input_size)
