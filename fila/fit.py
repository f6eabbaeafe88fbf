# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Whether a model and a processor fit together: what neither can see alone, told before any image is opened."""

import math
from typing import Any

from fila.conversion.new_weights import model_on_meta

# Connectors that make a fixed number of tokens, which lie on no grid of the view.
_QUERIES = ("resampler",)


def fitting_settings(config: Any, image_processor: Any, layout: Any) -> dict[str, Any]:
    """Settings of `FilaProcessor` that follow from the model and the canvas.

    Args:
        config: The `FilaConfig`.
        image_processor: The `FilaImageProcessor`.
        layout: The `Layout`.

    Returns:
        `tokens_per_tile`, and `token_size` where tokens lie on the grid of a view and something counts on it: views
        of unequal size, or newline vectors after rows of tokens.

    Raises:
        ValueError: If model, canvas and layout do not fit together; says why and what to change.
    """
    plans, fusion, connector = image_processor.plans(), config.fusion["type"], config.connector
    kind = connector["type"]
    if not plans.equal_views and fusion != "none":
        raise ValueError(
            f"The views of canvas {image_processor.canvas['type']!r} differ in size, and fusion {fusion!r} needs equal "
            "ones. Choose another canvas, or a model with one tower and no fusion."
        )
    if (image_processor.high_res_size is None) != (config.high_res_vision_config is None):
        raise ValueError(
            "The processor's `high_res_size` must be set if and only if the model has a high-res tower; got "
            f"{image_processor.high_res_size} and {getattr(config.high_res_vision_config, 'model_type', None)!r}."
        )
    if layout.row_newlines != config.image_newline:
        raise ValueError(
            "A layout with `row_newlines` needs a model with `image_newline`, and the other way round; got "
            f"{layout.row_newlines} and {config.image_newline}."
        )
    if layout.slice_positions != bool(config.slice_positions):
        raise ValueError(
            "The layout's `slice_positions` and the config's must both be set or neither; got "
            f"{layout.slice_positions} and {config.slice_positions}."
        )
    model = model_on_meta(config).model
    (rows, cols), count = model.vision_tower.fusion.output_grid, int(model.tokens_per_tile)
    moving = kind == "adaptive_resampler" and not plans.equal_views
    if layout.row_newlines and (kind in _QUERIES or moving or rows != cols):
        raise ValueError(
            f"A layout with `row_newlines` reads the tokens of a view row by row; those of connector {kind!r} behind "
            f"fusion {fusion!r} lie on no grid. Choose another layout or connector."
        )
    factor = connector.get("factor", 2) if kind == "pixel_shuffle" else 1
    block = factor * getattr(plans, "patch_size", 1)
    if factor > 1 and not plans.equal_views and getattr(plans, "unit", 1) % block:
        raise ValueError(
            f"Connector 'pixel_shuffle' joins {factor}x{factor} patches, and the views of canvas "
            f"{image_processor.canvas['type']!r} are not whole blocks. Choose canvas 'native' with `multiple`, or "
            "another connector."
        )
    settings: dict[str, Any] = {"tokens_per_tile": count}
    if not plans.equal_views and kind not in _QUERIES and not moving:
        settings["token_size"] = block
    elif layout.row_newlines:
        tile, per_row = image_processor.size["height"], math.isqrt(count)
        if tile % per_row:
            raise ValueError(
                f"A layout with `row_newlines` needs tokens of whole pixels; a view of {tile} pixels has {per_row} "
                "tokens per row. Choose another size, connector or layout."
            )
        settings["token_size"] = tile // per_row
    return settings
