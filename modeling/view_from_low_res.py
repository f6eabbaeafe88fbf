# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""High-res towers that encode the low-res views: `high_res_views` of type "low_res" (Eagle2). There is no canvas then.

    x' = x std / std' + (mean - mean') / std'       from the processor's normalisation to the towers', in float32

Each tower then resizes x' by its `input_size` and `resize`, view by view, so that no view sees its neighbour.

Deviations: Eagle2 resizes first, which commutes up to rounding.
"""

import torch

from .configuration_fila import FilaConfig

# Entries of `high_res_views`, by their names in the processor.
NORMALISATIONS = ("image_mean", "image_std", "high_res_image_mean", "high_res_image_std")


def views_from_low_res(config: FilaConfig, views: torch.Tensor) -> torch.Tensor:
    """Return low-res views `(T, 3, S, S)` in the normalisation of the high-res towers."""
    if len(config.high_res_views) == 1:
        return views
    mean, std, high_mean, high_std = (
        torch.as_tensor(config.high_res_views[name], dtype=torch.float64).expand(3)[:, None, None]
        for name in NORMALISATIONS
    )
    wide = torch.promote_types(views.dtype, torch.float32)
    scale, offset = std / high_std, (mean - high_mean) / high_std
    return (views.to(wide) * scale.to(views.device, wide) + offset.to(views.device, wide)).to(views.dtype)


def check_views_from_low_res(config: FilaConfig) -> None:
    """Check the settings of a model whose high-res towers encode the low-res views.

    Raises:
        ValueError: If a mean or standard deviation is missing or of wrong form, or a setting of the canvas is given.
    """
    for name, value in {"high_res_tile_size": None, "low_res_views": "processor", "high_res_overview": "pool"}.items():
        if getattr(config, name) != value:
            raise ValueError(
                f"`{name}` is {getattr(config, name)!r}, but `high_res_views` 'low_res' leaves no high-res canvas. "
                f"Use {value!r}."
            )
    given = {name: value for name, value in config.high_res_views.items() if name != "type"}
    if given and set(given) != set(NORMALISATIONS):
        raise ValueError(
            f"`high_res_views` of type 'low_res' takes all of {list(NORMALISATIONS)}, or none; got {sorted(given)}."
        )
    for name, value in given.items():
        numbers = value if isinstance(value, list | tuple) and len(value) == 3 else [value]
        if not all(isinstance(number, int | float) and abs(number) < float("inf") for number in numbers) or (
            name.endswith("std") and min(numbers) <= 0
        ):
            raise ValueError(f"`high_res_views.{name}` must be a number or three, a std above 0; got {value!r}.")
