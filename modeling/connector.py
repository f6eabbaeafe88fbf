# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Table of the connectors: the ways from vision width to language-model width."""

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
from .part_options import build_part, check_answers
from .video_clips import Read, TimeWindow
from .view_patch_grid import Grid


class Connector(Protocol):
    """Turns the encoder's features of each view into image tokens.

    Attributes:
        takes_unequal_views: Whether the views of a batch may differ in size.
        patch_block: Patches per side that become one image token, by which the tokens of views that differ in size
            are counted; None where all views have as many.
        over_time: What becomes of the frames of a video: "each" has tokens of its own, the connector reads their
            "mean", or it joins them as one "clip" (`ClipConnector`).

    Shapes: T views, P patches, D vision width, N image tokens of one view, M language-model width.
    """

    takes_unequal_views: bool
    patch_block: int | None
    over_time: str

    def tokens_per_tile(self, patch_grid: tuple[int, int]) -> int:
        """Image tokens that one view of `patch_grid` (rows, cols) patches becomes.

        Raises:
            ValueError: If the connector cannot take such a grid.
        """
        ...

    def token_grid(self, patch_grid: tuple[int, int]) -> tuple[int, int] | None:
        """Rows and columns of equal cells of a view for which its tokens stand, row by row.

        None where they do not: queries, steps of time, vectors of other things, tokens column by column.
        """
        ...

    def __call__(self, features: torch.Tensor, grid: Grid) -> torch.Tensor:
        """`(T, P, D) -> (T, N, M)`; see `Grid` for views of different sizes.

        Where grids differ, what the result holds beyond a view's `tokens_per_tile` is padding.
        """
        ...


class ClipConnector(Connector, Protocol):
    """Joins the frames of a video; see `video_clips.py`.

    Attributes:
        window: The frames that one step of the output sees.
    """

    window: TimeWindow

    def tokens_per_clip(self, num_frames: int, patch_grid: tuple[int, int]) -> int:
        """Image tokens of a video."""
        ...

    def clip(self, read: Read, num_frames: int, grid: Grid, frames_per_chunk: int | None = None) -> torch.Tensor:
        """Tokens of one video, `(N, M)`."""
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


def check_connector(name: str, part: type) -> None:
    """Check that a connector's class declares all that `Connector` asks, or `ClipConnector` where it joins frames.

    Raises:
        ValueError: If it does not; names the missing answers.
    """
    joins_frames = getattr(part, "over_time", None) == "clip"
    check_answers("connector", name, part, ClipConnector if joins_frames else Connector)


def build_connector(config: FilaConfig, input_size: int, options: dict[str, Any] | None = None) -> Connector:
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
