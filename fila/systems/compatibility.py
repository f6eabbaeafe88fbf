# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Whether a model and a processor fit together: what neither can see alone, told before any image is opened."""

import math
from typing import Any

from fila.modeling.towers import LOW_RES_TOWERS
from fila.systems.meta_model import model_on_meta

# Connectors that make a fixed number of tokens, which lie on no grid of the view.
_QUERIES = ("codebook", "resampler")
# Connectors that read views of one patch grid, and whose tokens are rows of something else: of steps, or with vectors
# of their own at both ends.
ONE_GRID = ("conv_glu", "dual_path", "spatial_conv", "spatial_pool", "stc", "stc_v35", "stp")


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
    plans, kind = image_processor.plans(), config.connector["type"]
    _check_views(config, image_processor, plans)
    _check_layout(config, layout)
    model = model_on_meta(config).model
    (rows, cols), count = model.vision_tower.fusion.output_grid, int(model.tokens_per_tile)
    unlike = kind == "adaptive_resampler" and not plans.equal_views  # as many tokens, whatever a view's size
    if layout.row_newlines and (kind in _QUERIES + ONE_GRID or unlike or rows != cols):
        raise ValueError(
            f"A layout with `row_newlines` reads the tokens of a view row by row; those of connector {kind!r} behind "
            f"fusion {config.fusion['type']!r} lie on no grid. Choose another layout or connector."
        )
    if layout.row_newlines and getattr(model.multi_modal_projector, "order", None) == "v1":
        raise ValueError(
            "A layout with `row_newlines` reads the tokens of a view row by row; those of connector 'pixel_shuffle' "
            "with `order` 'v1' stand column by column. Choose another layout or order."
        )
    if layout.unpad != "no" and not getattr(plans, "centred", False):
        raise ValueError(
            "A layout with `unpad` drops the rows and columns around an image in the middle of its canvas, its aspect "
            f"ratio kept; canvas {image_processor.canvas} draws it otherwise, so they would show the image. Set the "
            "layout's `unpad` to 'no', or choose another canvas."
        )
    settings: dict[str, Any] = {"tokens_per_tile": count}
    if config.video_token_id is not None:
        settings["clip_tokens"] = model.clip_tokens
    if not plans.equal_views and kind not in _QUERIES and not unlike:
        settings["token_size"] = _block_size(config, image_processor, plans)
    elif layout.row_newlines:
        settings["token_size"] = _token_size(image_processor.size["height"], math.isqrt(count))
    return settings


def _check_views(config: Any, image_processor: Any, plans: Any) -> None:
    """Views of unequal size go with one tower and no fusion, a high-res canvas with a high-res tower."""
    high, fusion, equal_views = config.high_res_vision_config, config.fusion["type"], plans.equal_views
    if not equal_views and plans.patch_size != (patch := config.tile_size // config.patch_grid[0]):
        raise ValueError(
            f"The patches of canvas {image_processor.canvas['type']!r} must be those of the low-res tower, {patch} "
            f"pixels; got {plans.patch_size}. Set the canvas's `patch_size`."
        )
    if not equal_views and fusion != "none":
        raise ValueError(
            f"The views of canvas {image_processor.canvas['type']!r} differ in size, and fusion {fusion!r} needs "
            "equal ones. Choose another canvas, or a model with one tower and no fusion."
        )
    if not equal_views and config.connector["type"] in ONE_GRID:
        raise ValueError(
            f"The views of canvas {image_processor.canvas['type']!r} differ in size, and connector "
            f"{config.connector['type']!r} reads views of one patch grid. Choose another canvas or connector."
        )
    tower = LOW_RES_TOWERS[config.vision_config.model_type]
    if not equal_views and not getattr(tower, "takes_mask", True):
        raise ValueError(
            f"The views of canvas {image_processor.canvas['type']!r} differ in size, and the layers of "
            f"{config.vision_config.model_type!r} take no mask for what pads them. Choose another canvas or tower."
        )
    if (image_processor.high_res_size is None) != (high is None):
        raise ValueError(
            "The processor's `high_res_size` must be set if and only if the model has a high-res tower; got "
            f"{image_processor.high_res_size} and {getattr(high, 'model_type', None)!r}."
        )


def _check_layout(config: Any, layout: Any) -> None:
    """What a layout asks of the model, the model must have, and the other way round."""
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


def _block_size(config: Any, image_processor: Any, plans: Any) -> int:
    """Pixels that a token covers where views differ: a patch, or the block of patches that the connector joins."""
    joins = config.connector["type"] == "pixel_shuffle"
    factor = config.connector.get("factor", 2) if joins else 1
    block = int(factor * plans.patch_size)
    if factor > 1 and getattr(plans, "unit", 1) % block:
        raise ValueError(
            f"Connector 'pixel_shuffle' joins {factor}x{factor} patches, and the views of canvas "
            f"{image_processor.canvas['type']!r} are not whole blocks. Choose canvas 'native' with `multiple`, or "
            "another connector."
        )
    return block


def _token_size(tile: int, per_row: int) -> int:
    """Pixels that a token covers where a tile has so many tokens per row."""
    if tile % per_row:
        raise ValueError(
            f"A layout with `row_newlines` needs tokens of whole pixels; a view of {tile} pixels has {per_row} tokens "
            "per row. Choose another size, connector or layout."
        )
    return tile // per_row
