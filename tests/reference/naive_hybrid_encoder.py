# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Slow twin of the hybrid encoder, written from the equations.

One image, one tap, one view at a time; no batching, no modules, no library of transformers. Only the weights are
shared: `weights` is `dict(FilaVisionModel.named_parameters())`, so gradients can be compared too.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

Weights = dict[str, torch.Tensor]


def layer_norm(x: torch.Tensor, weights: Weights, name: str, eps: float) -> torch.Tensor:
    """Normalise the last axis."""
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + eps) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x: torch.Tensor, weights: Weights, name: str) -> torch.Tensor:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def activation(name: str, x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(1.702 * x) if name == "quick_gelu" else 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def patch_embed(image: torch.Tensor, weight: torch.Tensor, size: int) -> torch.Tensor:
    """`(3, H, W) -> (rows, cols, D)`: one dot product per patch."""
    rows, cols = image.shape[1] // size, image.shape[2] // size
    flat = weight.flatten(1)
    return torch.stack(
        [
            torch.stack(
                [flat @ image[:, r * size : (r + 1) * size, c * size : (c + 1) * size].flatten() for c in range(cols)]
            )
            for r in range(rows)
        ]
    )


def clip_embed(config: Any, weights: Weights, view: torch.Tensor) -> torch.Tensor:
    """`(3, S, S) -> (1 + P, D)`."""
    name = "low_res_tower.embeddings"
    patches = patch_embed(view, weights[f"{name}.patch_embedding.weight"], config.patch_size).flatten(0, 1)
    tokens = (
        torch.cat([weights[f"{name}.class_embedding"][None], patches]) + weights[f"{name}.position_embedding.weight"]
    )
    return layer_norm(tokens, weights, "low_res_tower.pre_layrnorm", config.layer_norm_eps)


def clip_layer(config: Any, weights: Weights, index: int, x: torch.Tensor) -> torch.Tensor:
    """One transformer layer on `(1 + P, D)`, a head at a time."""
    name = f"low_res_tower.encoder.layers.{index}"
    normed = layer_norm(x, weights, f"{name}.layer_norm1", config.layer_norm_eps)
    q, k, v = (linear(normed, weights, f"{name}.self_attn.{part}_proj") for part in "qkv")
    width = config.hidden_size // config.num_attention_heads
    heads = []
    for head in range(config.num_attention_heads):
        part = slice(head * width, (head + 1) * width)
        scores = q[:, part] @ k[:, part].T / math.sqrt(width)
        heads.append(torch.softmax(scores, dim=-1) @ v[:, part])
    x = x + linear(torch.cat(heads, dim=-1), weights, f"{name}.self_attn.out_proj")
    hidden = linear(layer_norm(x, weights, f"{name}.layer_norm2", config.layer_norm_eps), weights, f"{name}.mlp.fc1")
    return x + linear(activation(config.hidden_act, hidden), weights, f"{name}.mlp.fc2")


def convnext_stage(config: Any, weights: Weights, index: int, x: torch.Tensor) -> torch.Tensor:
    """Stage `index` (from 0) on channels-last `(h, w, C)`."""
    name = f"high_res_tower.encoder.stages.{index}"
    if index:
        x = halve(
            layer_norm(x, weights, f"{name}.downsampling_layer.0", 1e-6),
            weights[f"{name}.downsampling_layer.1.weight"],
            weights[f"{name}.downsampling_layer.1.bias"],
        )
    for block in range(config.depths[index]):
        part = f"{name}.layers.{block}"
        kernel = weights[f"{part}.dwconv.weight"][:, 0]
        padded = F.pad(x, (0, 0, 3, 3, 3, 3))
        update = weights[f"{part}.dwconv.bias"] + sum(
            padded[dy : dy + x.shape[0], dx : dx + x.shape[1]] * kernel[:, dy, dx]
            for dy in range(7)
            for dx in range(7)
        )
        update = linear(layer_norm(update, weights, f"{part}.layernorm", 1e-6), weights, f"{part}.pwconv1")
        update = activation(config.hidden_act, update)
        if f"{part}.grn.weight" in weights:
            norm = torch.sqrt((update**2).sum((0, 1)))
            scaled = update * (norm / (norm.mean() + 1e-6))
            update = weights[f"{part}.grn.weight"][0, 0, 0] * scaled + weights[f"{part}.grn.bias"][0, 0, 0] + update
        update = linear(update, weights, f"{part}.pwconv2")
        if f"{part}.layer_scale_parameter" in weights:
            update = weights[f"{part}.layer_scale_parameter"] * update
        x = x + update
    return x


def convnext_embed(config: Any, weights: Weights, canvas: torch.Tensor) -> torch.Tensor:
    """`(3, H, W) -> (h, w, C)`."""
    name = "high_res_tower.embeddings"
    x = patch_embed(canvas, weights[f"{name}.patch_embeddings.weight"], config.patch_size)
    return layer_norm(x + weights[f"{name}.patch_embeddings.bias"], weights, f"{name}.layernorm", 1e-6)


def halve(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """2x2 stride-2 convolution on `(h, w, C)`: the four corners of each cell, one after the other."""
    return bias + sum(x[dy::2, dx::2] @ weight[:, :, dy, dx].T for dy in range(2) for dx in range(2))


def area_weights(start: float, stop: float, size: int, length: int) -> torch.Tensor:
    """Share of each of `length` cells in each of `size` equal bins of [start, stop]."""
    step = (stop - start) / size
    rows = []
    for i in range(size):
        low, high = start + i * step, start + (i + 1) * step
        rows.append([max(0.0, min(high, j + 1) - max(low, j)) / step for j in range(length)])
    return torch.tensor(rows, dtype=torch.float64)


def triangle_weights(size: int, length: int) -> torch.Tensor:
    """Antialiased linear interpolation of `length` cells at `size` bins."""
    step = length / size
    reach = max(step, 1.0)
    rows = []
    for i in range(size):
        centre = (i + 0.5) * step
        row = [max(0.0, 1 - abs(j + 0.5 - centre) / reach) for j in range(length)]
        rows.append([share / sum(row) for share in row])
    return torch.tensor(rows, dtype=torch.float64)


def resample(x: torch.Tensor, by_row: torch.Tensor, by_col: torch.Tensor) -> torch.Tensor:
    """`(h, w, C) -> (rows, cols, C)`."""
    rows = torch.einsum("rh,hwk->rwk", by_row.to(x.dtype), x)
    return torch.einsum("cw,rwk->rck", by_col.to(x.dtype), rows)


def linear_weights(size: int, length: int, *, corners: bool) -> torch.Tensor:
    """Bilinear interpolation without antialiasing along one axis: `(size, length)`."""
    rows = []
    for i in range(size):
        place = i * (length - 1) / max(size - 1, 1) if corners else max((i + 0.5) * length / size - 0.5, 0.0)
        rows.append([max(0.0, 1 - abs(min(place, length - 1) - j)) for j in range(length)])
    return torch.tensor(rows, dtype=torch.float64)


def resize(x: torch.Tensor, size: int, *, corners: bool) -> torch.Tensor:
    """`(h, w, C) -> (size, size, C)`."""
    by_row, by_col = (linear_weights(size, length, corners=corners) for length in x.shape[:2])
    return resample(x, by_row, by_col)


def cut(x: torch.Tensor, box: list[float], side: int) -> torch.Tensor:
    """Average the cells of `box` (top, left, bottom, right) into side x side."""
    top, left, bottom, right = box
    return resample(x, area_weights(top, bottom, side, x.shape[0]), area_weights(left, right, side, x.shape[1]))


def align(kind: str, weights: Weights, name: str, x: torch.Tensor, grid: int) -> torch.Tensor:
    """`(s, s, E) -> (P, E)`."""
    if kind == "conv":
        index = 0
        while x.shape[0] > grid:
            x = halve(x, weights[f"{name}.convs.{index}.weight"], weights[f"{name}.convs.{index}.bias"])
            index += 1
    elif kind == "pool":
        x = cut(x, [0, 0, x.shape[0], x.shape[1]], grid)
    elif x.shape[0] != grid:
        by_row = triangle_weights(grid, x.shape[0])
        x = resample(x, by_row, by_row)
    return x.flatten(0, 1)


def cvfm_tap(
    fusion: dict[str, Any], weights: Weights, tap: int, low: torch.Tensor, high: torch.Tensor
) -> torch.Tensor:
    """V <- V + W2 gelu(W1 [norm(V) ; norm(C)]) on `(1 + P, D)` and `(P, E)`."""
    name = f"fusion.layers.{tap}"
    rows = []
    for index, token in enumerate(low):
        if index == 0:
            if fusion.get("cls", "skip") == "skip":
                rows.append(token)
                continue
            detail = high.mean(0)
        else:
            detail = high[index - 1]
        v, c = token, detail
        if fusion.get("norm", True):
            v = layer_norm(v, weights, f"{name}.norm_low", 1e-5)
            c = layer_norm(c, weights, f"{name}.norm_high", 1e-5)
        update = linear(activation("gelu", linear(torch.cat([v, c]), weights, f"{name}.fc1")), weights, f"{name}.fc2")
        residual = fusion.get("residual", "add")
        if residual == "gate":
            update = torch.tanh(weights[f"{name}.gate"]) * update
        rows.append(update if residual == "none" else token + update)
    return torch.stack(rows)


@dataclass
class FusionTwin:
    """A slow fusion of one view: its taps and final stages, and what it does with `(N + P, D)` and `(E, s, s)`."""

    taps: tuple[tuple[int, int], ...]
    final_stages: tuple[tuple[int, ...], ...]
    fuse: Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor]
    finish: Callable[[torch.Tensor, list[torch.Tensor]], torch.Tensor]


def enlarge(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Bilinear, edges on edges: `(h, w, C)` to the size of `like`."""
    by_row = linear_weights(like.shape[0], x.shape[0], corners=False)
    return resample(x, by_row, linear_weights(like.shape[1], x.shape[1], corners=False))


def naive_hybrid_encoder(
    config: Any,
    weights: Weights,
    pixel_values: torch.Tensor,
    view_boxes: torch.Tensor,
    tile_grid: torch.Tensor,
    high_res_pixel_values: torch.Tensor | None = None,
    high_res_sizes: torch.Tensor | None = None,
    *,
    twin: FusionTwin | None = None,
) -> torch.Tensor:
    """Features of every real view, `(T, P, channels)`; inputs as in `FilaVisionModel.forward`.

    `twin` joins the towers; without one the fusion is `cvfm`, `channel_concat` or `none`.
    """
    clip, convnext, fusion = config.vision_config, config.high_res_vision_config, config.fusion
    tile, high_tile = clip.image_size, config.high_res_tile_size
    grid = tile // clip.patch_size
    taps = fusion.get("taps", []) if fusion["type"] == "cvfm" else []
    stages = (
        fusion.get("stages") or [len(convnext.depths) - len(taps) + i + 1 for i in range(len(taps))] if taps else []
    )
    kind = fusion.get("align", "conv" if fusion["type"] == "cvfm" else "bilinear")
    features = []
    for i in range(len(pixel_values)):
        boxes = [box.tolist() for box in view_boxes[i] if box.sum() > 0]
        rows, cols = tile_grid[i].tolist()

        def maps(canvas: torch.Tensor) -> list[torch.Tensor]:
            """The map of every stage that exists, of one canvas."""
            found, x = [], convnext_embed(convnext, weights, canvas)
            for stage in range(len(convnext.depths)):
                if not any(key.startswith(f"high_res_tower.encoder.stages.{stage}.") for key in weights):
                    break
                x = convnext_stage(convnext, weights, stage, x)
                found.append(x)
            return found

        canvas_maps, overview_maps = [], None
        if convnext is not None:
            height, width = high_res_sizes[i].tolist()
            canvas = high_res_pixel_values[i][:, :height, :width]
            canvas_maps = maps(canvas)
            if config.high_res_overview == "encode" and len(boxes) > rows * cols:
                box = [edge * high_tile / tile for edge in boxes[0]]
                overview_maps = maps(cut(canvas.permute(1, 2, 0), box, high_tile).permute(2, 0, 1))

        def owned(view: int, stage: int) -> torch.Tensor:
            """The view's square of the map of `stage` (from 1)."""
            if view == 0 and overview_maps is not None:  # noqa: B023
                return overview_maps[stage - 1]  # noqa: B023
            stride = convnext.patch_size * 2 ** (stage - 1)
            box = [edge * high_tile / tile / stride for edge in boxes[view]]  # noqa: B023
            return cut(canvas_maps[stage - 1], box, high_tile // stride)  # noqa: B023

        def owned_of_group(view: int, group: tuple[int, ...]) -> torch.Tensor:
            """The view's square of several stages' maps, stacked before it is cut: `(E, s, s)`."""
            canvas_map = canvas_maps[group[0] - 1]  # noqa: B023
            stacked = [canvas_map] + [enlarge(canvas_maps[stage - 1], canvas_map) for stage in group[1:]]  # noqa: B023
            stride = convnext.patch_size * 2 ** (group[0] - 1)
            box = [edge * high_tile / tile / stride for edge in boxes[view]]  # noqa: B023
            whole = torch.cat(stacked, dim=-1)
            if view == 0 and len(boxes) > rows * cols and config.high_res_overview == "interpolate":  # noqa: B023
                top, left, bottom, right = math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])
                square = resize(whole[top:bottom, left:right], high_tile // stride, corners=False)
            else:
                square = cut(whole, box, high_tile // stride)
            return square.permute(2, 0, 1)

        for view in range(len(boxes)):
            x = clip_embed(clip, weights, pixel_values[i][view])
            for layer in range(config.num_vision_layers):
                x = clip_layer(clip, weights, layer, x)
                for tap, (after, stage) in enumerate(zip(taps, stages, strict=True)):
                    if after == layer + 1:
                        detail = align(kind, weights, f"fusion.layers.{tap}.align", owned(view, stage), grid)
                        x = cvfm_tap(fusion, weights, tap, x, detail)
                for tap, (after, stage) in enumerate(twin.taps if twin else ()):
                    if twin and after == layer + 1:
                        x = twin.fuse(tap, x, owned_of_group(view, (stage,)))
            x = x[1:]
            if twin:
                x = twin.finish(x, [owned_of_group(view, group) for group in twin.final_stages])
            elif fusion["type"] == "channel_concat":
                stage = fusion.get("stage") or len(convnext.depths)
                x = torch.cat([x, align(kind, weights, "fusion.align.1", owned(view, stage), grid)], dim=-1)
            features.append(x)
    return torch.stack(features)
