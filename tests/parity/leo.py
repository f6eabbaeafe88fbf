# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""LEO @ d2787c6: the shuffles of both towers."""

import math
from collections.abc import Iterator
from pathlib import Path

from fila.modeling.connector_pixel_shuffle import pixel_shuffle
from tests.parity.golden import Comparison, read


def pixel_unshuffle(path: Path) -> Iterator[Comparison]:
    golden = read(path)
    for case in golden.cases("out"):  # SAM's map, channels first
        x, out = golden[f"{case}x"].permute(0, 2, 3, 1), golden[f"{case}out"]
        yield f"{case}out", pixel_shuffle(x, x.shape[1] // out.shape[1], "channel_first"), out
    for order in ("v1", "v2"):
        for case in golden.cases(order):
            x, out = golden[f"{case}x"], golden[f"{case}{order}"]
            factor = math.isqrt(out.shape[-1] // x.shape[-1])
            yield f"{case}{order}", pixel_shuffle(x, factor, order), out
