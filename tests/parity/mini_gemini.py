# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Mini-Gemini (MGM) @ 769820c: patch info mining with its projector, and the whole of `encode_images`."""

import math
import re
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F

from fila.modeling.connector_mlp import MlpConnector
from fila.modeling.fusion_align import area_resample, interpolate_box, stack_stages
from fila.modeling.fusion_patch_info_mining import PatchInfoMining
from fila.modeling.image_resize import resize_edges
from tests.parity.golden import Comparison, Golden, load, read, text_width


def mining(golden: Golden, side: int) -> PatchInfoMining:
    """The module with the recorded weights, for `side` x `side` patches."""
    state = {}
    for ours, theirs in (("query", "query"), ("key", "aux"), ("value", "val")):
        for name, value in golden.state(f"vlm_uni_{theirs}_projector.").items():
            state[f"{ours}.{name}"] = value
    module = PatchInfoMining(len(state["query.0.weight"]), len(state["key.0.weight"]), (side, side))
    load(module, state)
    return module


def projector(golden: Golden) -> MlpConnector:
    """The connector with the recorded weights."""
    state = golden.state("mm_projector.")
    numbers = sorted({int(name.split(".")[0]) for name in state})
    width, input_size = len(state["0.bias"]), state["0.weight"].shape[1]
    module = MlpConnector(text_width(width), input_size=input_size, depth=len(numbers))
    order = {str(number): f"linear_{1 + place}" for place, number in enumerate(numbers)}
    load(module, {name.replace(name.split(".")[0], order[name.split(".")[0]], 1): x for name, x in state.items()})
    return module


def patch_info_mining(path: Path) -> Iterator[Comparison]:
    golden = read(path)
    connector = projector(golden)
    for case in golden.cases("query"):
        low, high = golden[f"{case}query"], golden[f"{case}aux"]
        side = math.isqrt(low.shape[1])
        mined = mining(golden, side)(low, high)
        yield f"{case}mined", mined, golden[f"{case}mined"]
        yield f"{case}tokens", connector(low + mined, (side, side)), golden[f"{case}tokens"]


def low_res_views(golden: Golden, case: str) -> torch.Tensor:
    """`(I, V, 3, S, S)`, tiles row by row and then the overview, as the source orders its images.

    Where they are not recorded they are cut out of the high-res images, as the source does: `g2global` has 2 x 2 tiles
    and an overview. Without high-res images (`noaux`) there is nothing but the first case's.
    """
    if f"{case}images" not in golden and f"{case}aux" in golden:
        grid, side = int(re.findall(r"\d+", case)[0]), int(golden.metadata["low"])
        whole = resize_edges(golden[f"{case}aux"], (side * grid, side * grid))
        tiles = whole.unflatten(3, (grid, side)).unflatten(2, (grid, side)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
        return torch.cat([tiles, resize_edges(whole, (side, side))[:, None]], dim=1) if "global" in case else tiles
    first = next(iter(golden.cases("images")), "")
    views = golden[f"{case}images"] if f"{case}images" in golden else golden[f"{first}images"]
    num_images = len(golden[f"{case}aux"]) if f"{case}aux" in golden else len(golden[f"{case}out"])
    return views.reshape(num_images, -1, *views.shape[-3:])


def encode_images(path: Path) -> Iterator[Comparison]:
    """Stand-in towers, recorded with the rest: a patch convolution, and four convolutions for the stages."""
    golden = read(path)
    connector = projector(golden)
    low_tower, stem = golden.state("vision_tower.patch."), golden.state("vision_tower_aux.vision_stem.0.")
    patch = low_tower["weight"].shape[-1]
    for case in golden.cases("out"):
        out = golden[f"{case}out"]
        views = low_res_views(golden, case)
        low = F.conv2d(views.flatten(0, 1), low_tower["weight"], low_tower["bias"], stride=patch)
        side = low.shape[-1]
        low_IVPD = low.flatten(2).transpose(1, 2).unflatten(0, views.shape[:2])
        grid = math.isqrt(views.shape[1])
        has_overview = views.shape[1] > grid * grid
        if has_overview:  # the source's images have the overview last, its features first
            low_IVPD = low_IVPD.roll(1, dims=1)
        if f"{case}aux" in golden:
            maps = [F.conv2d(golden[f"{case}aux"], stem["weight"], stem["bias"], stride=stem["weight"].shape[-1])]
            for stage in range(sum(key.endswith("c.bias") for key in golden.state("vision_tower_aux."))):
                part = golden.state(f"vision_tower_aux.vision_stages.{stage}.c.")
                maps.append(F.conv2d(maps[-1], part["weight"], part["bias"], stride=part["weight"].shape[-1]))
            high = stack_stages(maps[1:])
            cells = high.shape[-1] // grid
            rows = range(grid)
            boxes = [(r * cells, c * cells, (r + 1) * cells, (c + 1) * cells) for r in rows for c in rows]
            squares = []
            for image in high:
                if has_overview:
                    squares.append(interpolate_box(image, (0, 0, *image.shape[1:]), (cells, cells)))
                squares += [area_resample(image, box, (cells, cells)) for box in boxes]
            low_TPD = low_IVPD.flatten(0, 1)
            fused = low_TPD + mining(golden, side)(low_TPD, torch.stack(squares))
            low_IVPD = fused.unflatten(0, low_IVPD.shape[:2])
        tokens = connector(low_IVPD.flatten(0, 1), (side, side))
        yield f"{case}out", tokens.reshape(out.shape), out
        if f"{case}aux" in golden and grid == 1 and not has_overview:
            size = views.shape[-2], views.shape[-1]
            yield f"{case}images", resize_edges(golden[f"{case}aux"], size), views[:, 0]
