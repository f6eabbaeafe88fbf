# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Options of a tower that its config class in transformers lacks.

The tower's config stores them under `tower_options`, so that they are saved with it. Each tower checks its own.
"""

from types import SimpleNamespace

from transformers import PreTrainedConfig

from .image_resize import RESIZES
from .part_options import one_of


class TowerError(ValueError):
    """A tower does not support the requested options."""


def tower_options(config: PreTrainedConfig, **defaults: object) -> SimpleNamespace:
    """Return a tower's options, with defaults for those that are not given.

    Args:
        config: The tower's config.
        defaults: All options of the tower with their defaults.

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
    """Return a size that config classes store as one number or as a pair.

    Raises:
        TowerError: If the two numbers differ.
    """
    value = getattr(config, name)
    if isinstance(value, list | tuple):
        if len(set(value)) != 1:
            raise TowerError(f"`{name}` of tower {config.model_type!r} must be square; got {tuple(value)}.")
        value = value[0]
    return int(value)


def whole_patches(config: PreTrainedConfig, height: int, width: int) -> tuple[int, int]:
    """Return (rows, cols) of the patches of a view of `height` x `width` pixels.

    Raises:
        TowerError: If the view is not whole patches.
    """
    patch = square(config, "patch_size")
    for side in (height, width):
        if side % patch:
            raise TowerError(
                f"`tile_size` must be a multiple of `patch_size`; got {side} and {patch}. It is the `image_size` of "
                "`vision_config` by default."
            )
    return height // patch, width // patch


def cells_per_side(config: PreTrainedConfig, tile: int, *, patch: int, unshuffle: int = 1) -> int:
    """Return the cells per side of a view tower's map for high-res views of `tile` pixels.

    Args:
        config: The tower's config, with the options `input_size` and `resize`.
        tile: Pixels per side of a view of the high-res canvas.
        patch: Pixels per side of a patch.
        unshuffle: Patches per side of one cell.

    Raises:
        TowerError: If the input does not divide into whole cells, or an option is unknown.
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
