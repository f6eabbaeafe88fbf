# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Table of the fusions: the ways in which the high-res tower's features join the low-res tower's."""

from collections.abc import Callable
from typing import Any, Protocol

import torch

from .fusion_channel_concat import ChannelConcatFusion
from .fusion_cvfm import CvfmFusion
from .fusion_none import NoFusion
from .options import build_part


class Fusion(Protocol):
    """Joins the towers at some taps, and once more after the last layer.

    Attributes:
        taps: `(layer, stage)` pairs, both counted from 1, in the order in which they are met: after that layer of the
            low-res tower the fusion sees the map of that stage of the high-res tower.
        final_stage: Stage whose map `finish` sees, or `None`.
        output_size: Channels of what `finish` returns.

    Shapes: T views, N prefix tokens (CLS), P patches, D low-res width, E width of the tap's stage, s cells per side
    that one view owns of that stage's map.
    """

    taps: tuple[tuple[int, int], ...]
    final_stage: int | None
    output_size: int

    def fuse(self, tap: int, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """Tap number `tap`, from 0: `(low (T, N + P, D), high (T, E, s, s)) -> (T, N + P, D)`."""
        ...

    def finish(self, low: torch.Tensor, high: torch.Tensor | None) -> torch.Tensor:
        """After the last layer: `(low (T, P, D), high (T, E, s, s)) -> (T, P, output_size)`."""
        ...


FUSIONS: dict[str, Callable[..., Fusion]] = {
    "channel_concat": ChannelConcatFusion,
    "cvfm": CvfmFusion,
    "none": NoFusion,
}


def build_fusion(config: Any) -> Any:
    """Build the fusion that `config.fusion` names.

    Raises:
        ValueError: If the name, an option or an option's value is not accepted.
    """
    return build_part("fusion", FUSIONS, config.fusion, config)
