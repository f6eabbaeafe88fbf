# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""InternVL @ 2410d1d: pixel shuffle and projector."""

import math
from collections.abc import Iterator
from pathlib import Path

from fila.modeling.connector_pixel_shuffle import PixelShuffleConnector, pixel_shuffle
from tests.parity.golden import Comparison, load, read, text_width


def shuffle(path: Path) -> Iterator[Comparison]:
    golden = read(path)
    for order in ("v1", "v2"):
        for case in golden.cases(order):
            x, out = golden[f"{case}x"], golden[f"{case}{order}"]
            yield f"{case}{order}", pixel_shuffle(x, math.isqrt(out.shape[-1] // x.shape[-1]), order), out


def projector(path: Path) -> Iterator[Comparison]:
    golden = read(path)
    hidden, state = golden["vit_hidden"], golden.state("mlp1.")
    factor = math.isqrt(len(state["0.weight"]) // hidden.shape[-1])
    side = math.isqrt(hidden.shape[1])
    prefix = hidden.shape[1] - side**2  # CLS, where the tower has one
    connector = PixelShuffleConnector(
        text_width(len(state["3.bias"])),
        input_size=hidden.shape[-1],
        factor=factor,
        order=golden.metadata.get("ps", "v2"),
    )
    names = {"0": "norm", "1": "linear_1", "3": "linear_2"}
    load(connector, {f"{names[key.split('.')[0]]}.{key.split('.')[1]}": value for key, value in state.items()})
    yield "out", connector(hidden[:, prefix:], (side, side)), golden["out"]
