# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Checks that a model and a processor fit together, before any image is opened."""

from collections.abc import Mapping
from typing import Any, cast

from fila.modeling.configuration_fila import FilaConfig
from fila.modeling.connector import Connector
from fila.modeling.fusion import token_grid
from fila.modeling.modeling_hybrid_encoder import FilaVisionModel
from fila.processing.canvas import Canvas, UnequalCanvas
from fila.processing.image_processing_fila import FilaImageProcessor, FilaImageProcessorPil
from fila.processing.layout import Layout
from fila.systems.meta_model import model_on_meta


def fitting_settings(
    config: FilaConfig, image_processor: FilaImageProcessor | FilaImageProcessorPil, layout: Layout
) -> dict[str, Any]:
    """Return the settings of `FilaProcessor` that follow from the model and the canvas.

    Args:
        config: The `FilaConfig`.
        image_processor: The `FilaImageProcessor`.
        layout: The `Layout`.

    Returns:
        `tokens_per_tile`, and also `token_size` if tokens form a grid and are counted by it: for views of unequal
        size, or newline vectors after rows of tokens.

    Raises:
        ValueError: If model, canvas and layout do not fit together; says why and what to change.
    """
    _check_layout(config, layout)
    model, canvas, options = model_on_meta(config).model, image_processor.plans(), image_processor.canvas
    unequal = cast(UnequalCanvas, canvas)
    encoder, connector = model.vision_tower, model.multi_modal_projector
    if not canvas.equal_views:
        for each in [connector, *(() if model.injection is None else model.injection.connectors)]:
            _check_unequal_views(config, encoder, each, unequal, options)
            if each.patch_block != connector.patch_block:
                raise ValueError(
                    f"The views of canvas {options['type']!r} differ in size, and the connectors of `injection` join "
                    f"blocks of {each.patch_block} patches where `connector` joins {connector.patch_block}. Give all "
                    "the same block."
                )
        block = _block_size(config, connector, unequal, options)
    if (image_processor.high_res_size is None) == config.has_high_res_canvas:
        raise ValueError(
            "The processor's `high_res_size` must be set if and only if the model has a high-res tower that reads the "
            f"high-res canvas; got {image_processor.high_res_size} and "
            f"{getattr(config.high_res_vision_config, 'model_type', None)!r}, with `high_res_views` "
            f"{config.high_res_views['type']!r}."
        )
    _check_normalisation(config, image_processor)
    grid = token_grid(encoder.fusion, connector)
    follows_size = not canvas.equal_views and connector.patch_block is not None
    if layout.has_newlines:
        if grid is None or not (canvas.equal_views or follows_size):
            raise ValueError(
                "A layout with `row_newlines` reads the tokens of a view row by row; those of connector "
                f"{config.connector['type']!r} behind fusion {config.fusion['type']!r} lie on no grid, or not row by "
                "row. Choose another layout or connector, or another order of its tokens."
            )
        _check_map(layout, canvas, options)
    settings: dict[str, Any] = {"tokens_per_tile": int(model.tokens_per_tile)}
    if config.video_token_id is not None:
        settings["clip_tokens"] = model.clip_tokens
    if follows_size:
        settings["token_size"] = block
    elif layout.has_newlines and grid is not None:
        settings["token_size"] = _token_size(image_processor.size["height"], *grid)
    return settings


def _check_unequal_views(
    config: FilaConfig,
    encoder: FilaVisionModel,
    connector: Connector,
    canvas: UnequalCanvas,
    options: Mapping[str, Any],
) -> None:
    """Check that patches, tower, fusion and connector support views that differ in size."""
    start = f"The views of canvas {options['type']!r} differ in size, and"
    if (getattr(config.vision_config, "tower_options", None) or {}).get("input_size") is not None:
        raise ValueError(
            f"{start} the low-res tower resizes each to its `input_size`. Drop it from `tower_options`, or choose "
            "another canvas."
        )
    if canvas.patch_size != (patch := config.patch_size):
        raise ValueError(
            f"The patches of canvas {options['type']!r} must be those of the low-res tower, {patch} pixels; got "
            f"{canvas.patch_size}. Set the canvas's `patch_size`."
        )
    if not encoder.fusion.takes_unequal_views:
        raise ValueError(
            f"{start} fusion {config.fusion['type']!r} with `vision_feature_select` "
            f"{config.vision_feature_select!r} needs equal ones. Choose another canvas, or a model with one tower and "
            "no fusion."
        )
    if not connector.takes_unequal_views:
        raise ValueError(
            f"{start} connector {config.connector['type']!r} reads views of one patch grid. Choose another canvas or "
            "connector."
        )
    if not (encoder.low_res_tower.takes_mask or config.has_serial_towers):  # which encode views size by size
        raise ValueError(
            f"{start} the layers of {config.vision_config.model_type!r} take no mask for what pads them. Choose "
            "another canvas or tower."
        )


def _check_normalisation(config: FilaConfig, image_processor: FilaImageProcessor | FilaImageProcessorPil) -> None:
    """Check that the processor normalises views as `high_res_views`, which undoes it for the high-res towers, says."""
    for name in ("image_mean", "image_std"):
        said, own = config.high_res_views.get(name), getattr(image_processor, name)
        if said is not None and _three(said) != _three(own):
            raise ValueError(
                f"`high_res_views.{name}` of the model must be the processor's `{name}`, from which the high-res "
                f"towers' colours are made; got {said} and {own}."
            )


def _three(value: Any) -> list[float]:
    """Return a mean or standard deviation of all channels as three numbers."""
    return [float(number) for number in (value if isinstance(value, list | tuple) else [value] * 3)]


def _check_map(layout: Layout, canvas: Canvas, options: Mapping[str, Any]) -> None:
    """Check that the tiles of a canvas make the map that a layout with `row_newlines` reads."""
    if canvas.tiles_overlap:
        raise ValueError(
            "A layout with `row_newlines` reads the tokens of all tiles as one map; the tiles of canvas "
            f"{options} overlap, so it would show pixels twice. Choose another layout or canvas."
        )
    if layout.unpad != "no" and not canvas.centred:
        raise ValueError(
            "A layout with `unpad` drops the rows and columns around an image in the middle of its canvas, its aspect "
            f"ratio kept; canvas {options} draws it otherwise, so they would show the image. Set the layout's `unpad` "
            "to 'no', or choose another canvas."
        )


def _check_layout(config: FilaConfig, layout: Layout) -> None:
    """Check that the model provides what the layout requires, and the layout what the model requires."""
    if layout.has_newlines != config.image_newline:
        raise ValueError(
            "A layout with `row_newlines` needs a model with `image_newline`, and the other way round; got "
            f"{layout.has_newlines} and {config.image_newline}."
        )
    if layout.separator != config.view_separator:
        raise ValueError(
            "A layout with `separator` needs a model with `view_separator`, and the other way round; got "
            f"{layout.separator} and {config.view_separator}."
        )
    if layout.slice_positions != bool(config.slice_positions):
        raise ValueError(
            "The layout's `slice_positions` and the config's must both be set or neither; got "
            f"{layout.slice_positions} and {config.slice_positions}."
        )


def _block_size(config: FilaConfig, connector: Connector, canvas: UnequalCanvas, options: Mapping[str, Any]) -> int:
    """Return the pixels per side of a token where views differ: the block of patches of one image token."""
    joined = config.tile_size // config.patch_size // config.patch_grid[0]  # patches per side of a feature
    block = joined * (connector.patch_block or 1)
    if canvas.patch_block % block:
        tower = f"The low-res tower joins {joined}x{joined} patches. " if joined > 1 else ""
        raise ValueError(
            f"{tower}Connector {config.connector['type']!r} joins {block}x{block} patches, and the views of canvas "
            f"{options['type']!r} are not whole blocks. Choose canvas 'native' or 'minicpm' with `multiple` {block}, "
            "or another connector."
        )
    return block * int(canvas.patch_size)


def _token_size(tile: int, rows: int, cols: int) -> int:
    """Return the pixels per side of a token, from a tile's rows and columns of tokens."""
    if tile % rows or rows != cols:
        raise ValueError(
            f"A layout with `row_newlines` needs tokens of whole pixels; a view of {tile} pixels has {cols} tokens "
            f"per row, in {rows} rows. Choose another size, connector or layout."
        )
    return tile // rows
