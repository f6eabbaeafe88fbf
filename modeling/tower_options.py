# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Options of a tower that its config class in transformers does not have.

They stand in the tower's own config under `tower_options`, so that they travel with it, and each tower checks them.
"""

from types import SimpleNamespace

from transformers import PreTrainedConfig

from .image_resize import RESIZES
from .part_options import one_of


class TowerError(ValueError):
    """A tower that cannot do what is asked of it."""


def tower_options(config: PreTrainedConfig, **defaults: object) -> SimpleNamespace:
    """A tower's options, the defaults where none are given.

    Args:
        config: The tower's config.
        defaults: All options that the tower has.

    Raises:
        TowerError: If an option is unknown.
    """
    given = getattr(config, "tower_options", None) or {}
    if unknown := sorted(set(given) - set(defaults)):
        raise TowerError(
            f"Tower {config.model_type!r} has no option {unknown} in `tower_options`; it accepts {sorted(defaults)}."
        )
    return SimpleNamespace(**(defaults | given))


def square(config: PreTrainedConfig, name: str) -> int:
    """A size that some config classes keep as one number and some as a pair.

    Raises:
        TowerError: If the two differ.
    """
    value = getattr(config, name)
    if isinstance(value, list | tuple):
        if len(set(value)) != 1:
            raise TowerError(f"`{name}` of tower {config.model_type!r} must be square; got {tuple(value)}.")
        value = value[0]
    return int(value)


def cells_per_side(config: PreTrainedConfig, tile: int, *, patch: int, unshuffle: int = 1) -> int:
    """Cells per side of the one map of a tower that encodes views, for high-res views of `tile` pixels.

    Args:
        config: The tower's config, with the options `input_size` and `resize`.
        tile: Pixels per side of a view of the high-res canvas.
        patch: Pixels per side of a patch.
        unshuffle: Patches per side that one cell holds.

    Raises:
        TowerError: If the input is not whole cells, or an option is unknown.
    """
    given = getattr(config, "tower_options", None) or {}
    one_of("tower_options.resize", given.get("resize", "corners"), RESIZES)
    size = given.get("input_size") or tile
    if size % (patch * unshuffle):
        raise TowerError(
            f"Tower {config.model_type!r} encodes views in cells of {patch * unshuffle} pixels; {size} pixels are not "
            "whole cells. Set `high_res_tile_size`, or `input_size` in its `tower_options`."
        )
    return int(size // (patch * unshuffle))
