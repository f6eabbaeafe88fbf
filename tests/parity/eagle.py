# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""EAGLE @ fef95f1: channel concatenation of towers with grids of their own, SAM's short neck, Pix2Struct's grid."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import torch.nn.functional as F

from fila.modeling.fusion_align import Align
from fila.modeling.fusion_channel_concat import concat_channels
from fila.modeling.image_resize import resize_corners
from fila.modeling.tower_sam import ShortNeck
from tests.goldens import numbers_in
from tests.parity.golden import Comparison, load, read


def channel_concat(path: Path) -> Iterator[Comparison]:
    """Stand-in towers, recorded with the rest: (channels, patch, input size, sequence or map)."""
    golden = read(path)
    grid, x = int(golden.metadata["grid"]), golden["x"]
    maps = []
    towers = re.findall(r"\((\d+),(\d+),(\d+),(seq|map)\)", golden.metadata["towers"])
    numbers = numbers_in(golden.tensors, r"sd\.vision_towers\.(\d+)\.conv\.weight")
    for index, (channels, patch, input_size, kind) in zip(numbers, towers, strict=True):
        resized = resize_corners(x, (int(input_size), int(input_size)))
        if f"resized_x_{index}" in golden:
            yield f"resized_x_{index}", resized, golden[f"resized_x_{index}"]
        state = golden.state(f"vision_towers.{index}.conv.")
        features = F.conv2d(resized, state["weight"], state["bias"], stride=int(patch))
        assert features.shape[1] == int(channels)
        if kind == "seq":  # tokens, of which only the number is known
            tokens = features.flatten(2)
            side = math.isqrt(tokens.shape[2])
            features = tokens.unflatten(2, (side, side))
        align = Align("corners", channels=features.shape[1], side=features.shape[-1], grid=grid)
        maps.append(align(features))
    yield "out", concat_channels(maps), golden["out"]


def sam_short_neck(path: Path) -> Iterator[Comparison]:
    golden = read(path)
    state = golden.state("neck.")
    channels, width = state["conv1.weight"].shape[:2]
    neck = ShortNeck(SimpleNamespace(hidden_size=width, output_channels=channels))
    load(neck, state)
    for case in golden.cases("hidden_nhwc"):
        features = neck(golden[f"{case}hidden_nhwc"])
        yield f"{case}neck_nhwc", features.permute(0, 2, 3, 1), golden[f"{case}neck_nhwc"]
        unshuffled = golden[f"{case}unshuffled_nchw"]
        times = math.isqrt(unshuffled.shape[1] // channels)
        yield f"{case}unshuffled_nchw", F.pixel_unshuffle(features, times), unshuffled


def pix2struct_resize(path: Path) -> Iterator[Comparison]:
    """The sequence is filled up to a fixed length; our tower has the square of patches alone."""
    golden = read(path)
    for case in golden.cases("tokens"):
        tokens, out = golden[f"{case}tokens"], golden[f"{case}out"]
        side = math.isqrt(tokens.shape[1])
        square = tokens[:, : side * side].transpose(1, 2).unflatten(2, (side, side))
        align = Align("corners", channels=square.shape[1], side=side, grid=out.shape[-1])
        yield f"{case}out", align(square), out
