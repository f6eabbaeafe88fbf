# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Check the taps of a fusion: pairs of a low-res layer and the high-res stage that is fused after it."""

from collections.abc import Sequence

import torch

from .configuration_fila import FilaConfig
from .towers import count_stages


def layers_at(config: FilaConfig, fractions: Sequence[float], taps: object = None) -> Sequence[int]:
    """Return `taps` if given, else `round(depth * fraction)` for each fraction, limited to the layers that run.

    Raises:
        ValueError: If `taps` is not a list of whole numbers.
    """
    if taps is not None:
        return _whole_numbers("taps", taps)
    depth = config.vision_config.num_hidden_layers
    return [min(max(1, round(depth * fraction)), config.num_vision_layers) for fraction in fractions]


def checked_taps(config: FilaConfig, taps: Sequence[int], stages: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Pair the options `taps` (layers) and `stages`, both counted from 1.

    Raises:
        ValueError: If they are not lists of whole numbers, do not pair up, do not exist or decrease.
    """
    taps, stages = _whole_numbers("taps", taps), _whole_numbers("stages", stages)
    count = count_stages(config)
    if len(taps) != len(stages) or not taps:
        raise ValueError(f"`fusion.taps` and `fusion.stages` must pair up; got {taps} and {stages}.")
    if sorted(taps) != list(taps) or not 1 <= taps[0] <= taps[-1] <= config.num_vision_layers:
        raise ValueError(
            f"`fusion.taps` must be increasing layers of the low-res tower, 1..{config.num_vision_layers}; got {taps}."
        )
    if sorted(stages) != list(stages) or not 1 <= stages[0] <= stages[-1] <= count:
        raise ValueError(f"`fusion.stages` must be increasing stages of the high-res tower, 1..{count}; got {stages}.")
    return tuple(zip(taps, stages, strict=True))


def _whole_numbers(option: str, values: object) -> Sequence[int]:
    if not isinstance(values, list | tuple) or any(type(value) is not int for value in values):
        raise ValueError(f"`fusion.{option}` must be a list of whole numbers, counted from 1; got {values!r}.")
    return values


def split_prefix(tokens: torch.Tensor, num_patches: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Split `(T, N + P, D)` into the N prefix tokens and the P patches."""
    prefix, patches = tokens.split([tokens.shape[1] - num_patches, num_patches], dim=1)
    return prefix, patches
