# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""CogVLM2 and CogVLM2-Video: the adapter (a reconstruction)."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

from fila.modeling.connector_conv_glu import ConvGluConnector
from tests.parity.golden import Comparison, load, read, text_width
from tests.parity.videollama2 import weights


def adapter(path: Path) -> Iterator[Comparison]:
    golden = read(path)
    config, state = json.loads(golden.metadata["config"]), weights(golden)
    conv_size, input_size = state["conv.weight"].shape[:2]
    divisors = [float(x) for key, x in (golden.metadata | config).items() if "scal" in key or "div" in key]
    ours = ConvGluConnector(
        text_width(config["hidden"]),
        input_size=input_size,
        conv="input" if conv_size == input_size else "output",
        intermediate_size=config["intermediate"],
        boundaries="boi" in state,
        scaling_factor=divisors[0] if divisors else 1.0,
    )
    load(ours, state)
    for key in sorted(key for key in golden.tensors if key.startswith("in/x")):
        side = math.isqrt(golden[key].shape[1])
        yield key, ours(golden[key], (side, side)), golden[key.replace("in/x", "out/y")]
