# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""EAGLE @ fef95f1: channel concatenation of towers with grids of their own."""

import math
import re
from collections.abc import Iterator
from pathlib import Path

import torch.nn.functional as F

from fila.modeling.align import Align
from fila.modeling.fusion_channel_concat import concat_channels
from fila.modeling.resize import resize_corners
from tests.parity.golden import Comparison, read


def channel_concat(path: Path) -> Iterator[Comparison]:
    """Stand-in towers, recorded with the rest: (channels, patch, input size, sequence or map)."""
    golden = read(path)
    grid, x = int(golden.metadata["grid"]), golden["x"]
    maps = []
    towers = re.findall(r"\((\d+),(\d+),(\d+),(seq|map)\)", golden.metadata["towers"])
    for index, (channels, patch, input_size, kind) in enumerate(towers):
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
