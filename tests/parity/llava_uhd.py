# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""LLaVA-UHD, branch v1 @ dd7f6cc: adaptive resampler."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import torch

from fila.modeling.connector_adaptive_resampler import AdaptiveResamplerConnector, window_size
from tests.parity.golden import Comparison, load, read, read_json, text_width


def adaptive_resampler(path: Path) -> Iterator[Comparison]:
    golden = read(path)
    state = golden.state()
    num_queries, width = state["query"].shape
    heads = golden.metadata.get("num_heads")
    connector = AdaptiveResamplerConnector(
        text_width(width),
        input_size=state["kv_proj.weight"].shape[1] if "kv_proj.weight" in state else width,
        grid_size=math.isqrt(num_queries),
        num_heads=None if heads is None else int(heads),
    )
    load(connector, state)
    for case in golden.cases("tgt"):
        grid = tuple(golden[f"{case}tgt"].tolist())
        yield f"{case}y", connector(golden[f"{case}x"], grid), golden[f"{case}y"]
    for row in json.loads(golden.metadata.get("pool", "{}")).values():
        yield "pool_hw", torch.tensor(window_size(row["h"], row["w"])), torch.tensor(row["pool_hw"])


def pool_sizes(path: Path) -> Iterator[Comparison]:
    rows = read_json(path)["rows"]
    ours = torch.tensor([window_size(row["h"], row["w"]) for row in rows])
    yield f"{len(rows)} rows", ours, torch.tensor([row["pool_hw"] for row in rows])
