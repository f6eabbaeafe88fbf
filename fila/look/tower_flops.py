# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Operations of the towers on one image, from the numbers of their configs.

A patch transformer projects its patches; in every layer it projects its tokens four times (query, key, value, output),
compares each with those that it attends to, and runs an MLP. Towers differ in prefix tokens, windows and MLPs alone.
"""

from typing import Any

from fila.modeling.tower_options import square
from fila.modeling.tower_pix2struct import pix2struct_options
from fila.modeling.tower_sam import sam_options
from fila.modeling.tower_vit import vit_options
from fila.modeling.towers import HIGH_RES_TOWERS, LOW_RES_TOWERS, high_res_configs, locate_stage
from fila.processing.canvas_plan import CanvasPlan, Size
from fila.processing.render import scale_geometry


def low_res_flops(config: Any, patches: int) -> int:
    """Operations of the low-res tower of a `FilaConfig` on one view of so many patches."""
    vision = config.vision_config
    tokens = patches + LOW_RES_TOWERS[vision.model_type].num_prefix(vision)
    return _patching_flops(vision, patches) + config.num_vision_layers * _layer_flops(vision, tokens)


def high_res_flops(config: Any, fusion: Any, plan: CanvasPlan) -> int:
    """Operations of all high-res towers of a `FilaConfig` on one image, and of cutting out what each view owns."""
    if config.high_res_vision_config is None:
        return 0
    tile, side = config.tile_size, config.high_res_tile_size
    canvas, _ = scale_geometry(plan, low=Size(tile, tile), high=Size(side, side))
    read = [*((stage,) for _, stage in fusion.taps), *fusion.final_stages]
    located = [[locate_stage(config, stage) for stage in group] for group in read]
    total, views_are_cut = 0, False
    for index, tower in enumerate(high_res_configs(config)):
        if not HIGH_RES_TOWERS[tower.model_type].encodes_views:
            groups = [[own for _, own in group] for group in located if group[0][0] == index]
            total += _canvas_tower_flops(config, tower, groups, plan, canvas)
            continue
        if not views_are_cut:  # once for all towers
            total += _cutting_flops(config, _boxes(config, plan, "interpolate"), canvas, stride=1, width=3)
            views_are_cut = True
        total += plan.num_views * view_tower_flops(tower, side)
    return int(total)


def view_tower_flops(tower: Any, tile: int) -> int:
    """Operations of a high-res tower that encodes views alone, on one view of `tile` high-res pixels."""
    kind, prefix, layers, after = tower.model_type, 0, tower.num_hidden_layers, 0
    patch = pix2struct_options(tower).patch_size if kind == "pix2struct_vision_model" else square(tower, "patch_size")
    side = ((getattr(tower, "tower_options", None) or {}).get("input_size") or tile) // patch
    if kind in LOW_RES_TOWERS:
        prefix, layer = LOW_RES_TOWERS[kind].num_prefix(tower), vit_options(tower).layer
        layers = layer if layer > 0 else layers + 1 + layer
    if kind == "sam_vision_model":
        after = _neck_flops(tower, side * side)
    total = _patching_flops(tower, side * side) + after
    for index in range(layers):
        window = getattr(tower, "window_size", 0)
        if window and index not in tower.global_attn_indexes:
            total += _layer_flops(tower, side * side, windows=(-(-side // window)) ** 2, window=window)
        else:
            total += _layer_flops(tower, side * side + prefix, window=side)
    return total


def _patching_flops(tower: Any, patches: int) -> int:
    """Operations of projecting patches."""
    if tower.model_type == "pix2struct_vision_model":
        numbers = tower.patch_embed_hidden_size
    else:
        numbers = getattr(tower, "num_channels", 3) * square(tower, "patch_size") ** 2
    return int(2 * patches * tower.hidden_size * numbers)


def _layer_flops(tower: Any, tokens: int, *, windows: int = 0, window: int = 0) -> int:
    """Operations of one layer.

    Args:
        tower: The tower's config.
        tokens: That it reads.
        windows: Into how many windows the attention pads them; 0: all tokens attend to all.
        window: Patches per side of what a token attends to, for positions that are relative to it.
    """
    width = tower.hidden_size
    inner = tower.num_attention_heads * tower.d_kv if hasattr(tower, "d_kv") else width
    padded, attended = (windows * window**2, window**2) if windows else (tokens, tokens)
    total = 2 * padded * 4 * width * inner + 4 * padded * attended * inner + 2 * tokens * _mlp_weights(tower)
    if getattr(tower, "use_rel_pos", False):
        total += 4 * padded * window * inner  # every query with the positions of a row and of a column
    return int(total)


def _mlp_weights(tower: Any) -> int:
    """Numbers in the matrices of a layer's MLP."""
    width, kind = tower.hidden_size, tower.model_type
    if kind == "pix2struct_vision_model":
        return int(3 * width * tower.d_ff)
    if kind == "eva02":
        return int(3 * width * tower.intermediate_size)
    if kind == "sam_vision_model":
        return int(2 * width * tower.mlp_dim)
    if kind.startswith("dinov2"):
        hidden = int(width * tower.mlp_ratio)
        return 3 * width * ((hidden * 2 // 3 + 7) // 8 * 8) if tower.use_swiglu_ffn else 2 * width * hidden
    return int(2 * width * tower.intermediate_size)


def _neck_flops(tower: Any, cells: int) -> int:
    """Operations of SAM's neck."""
    neck, channels = sam_options(tower).neck, tower.output_channels
    weights = {"none": 0, "short": tower.hidden_size, "full": tower.hidden_size + 9 * channels}[neck] * channels
    return int(2 * cells * weights)


def _canvas_tower_flops(config: Any, tower: Any, groups: list[list[int]], plan: CanvasPlan, canvas: Size) -> int:
    """Operations of a ConvNeXt on a canvas, and of cutting what views own out of the maps of groups of its stages."""
    side, last = config.high_res_tile_size, max(max(group) for group in groups)
    total = _convnext_flops(tower, canvas, last)
    if config.high_res_overview == "encode" and plan.overview_size is not None:
        whole = [plan.view_boxes[0]]
        total += _cutting_flops(config, whole, canvas, stride=1, width=3)
        total += _convnext_flops(tower, Size(side, side), last)
    boxes = _boxes(config, plan, "interpolate", "encode")
    for group in groups:
        width = sum(tower.hidden_sizes[stage - 1] for stage in group)
        total += _cutting_flops(config, boxes, canvas, stride=tower.patch_size * 2 ** (group[0] - 1), width=width)
    return total


def _boxes(config: Any, plan: CanvasPlan, *others: str) -> list[Any]:
    """The boxes that are averaged; the overview's is not where `high_res_overview` is one of `others`."""
    boxes = list(plan.view_boxes)
    return boxes[1:] if plan.overview_size is not None and config.high_res_overview in others else boxes


def _cutting_flops(config: Any, boxes: list[Any], canvas: Size, *, stride: int, width: int) -> int:
    """Operations of averaging boxes of a map of `width` channels, whose cells are `stride` pixels of the canvas."""
    side = config.high_res_tile_size
    cells = Size(canvas.height // stride, canvas.width // stride)
    scaled = [tuple(edge * side / (config.tile_size * stride) for edge in box) for box in boxes]
    return sum(_resample_flops(box, cells, side // stride, width) for box in scaled)


def _resample_flops(box: tuple[float, ...], cells: Size, side: int, width: int) -> int:
    """Operations of averaging a box of a map `(E, h, w)` into `side` x `side` cells; whole cells are cut or pooled."""
    if all(float(edge).is_integer() for edge in box):
        height, breadth = int(box[2]) - int(box[0]), int(box[3]) - int(box[1])
        if height % side == 0 and breadth % side == 0:
            return 0
    return 2 * width * side * cells.width * (cells.height + side)


def _convnext_flops(tower: Any, canvas: Size, stages: int) -> int:
    """Operations of the first stages of a ConvNeXt on a canvas."""
    height, width = canvas.height // tower.patch_size, canvas.width // tower.patch_size
    total = 2 * height * width * tower.hidden_sizes[0] * tower.num_channels * tower.patch_size**2
    for index in range(stages):
        channels = tower.hidden_sizes[index]
        if index > 0:
            height, width = height // 2, width // 2
            total += 2 * height * width * channels * tower.hidden_sizes[index - 1] * 4
        total += tower.depths[index] * 2 * height * width * (49 * channels + 8 * channels * channels)
    return int(total)
