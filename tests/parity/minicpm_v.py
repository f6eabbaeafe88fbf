# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""MiniCPM-V 2.6: resampler and its positions."""

import re
from collections.abc import Iterator
from pathlib import Path

import torch

from fila.modeling.connector_resampler import ResamplerConnector
from fila.modeling.sincos import sincos_2d
from tests.parity.golden import Comparison, load, read, text_width


def resampler(path: Path) -> Iterator[Comparison]:
    golden = read(path)
    state = golden.state()
    num_queries, width = state["query"].shape
    heads = golden.metadata.get("num_heads")
    connector = ResamplerConnector(
        text_width(width),
        input_size=state["kv_proj.weight"].shape[1] if "kv_proj.weight" in state else width,
        num_queries=num_queries,
        num_heads=None if heads is None else int(heads),
    )
    load(connector, state)
    for case in golden.cases("tgt_sizes"):
        yield f"{case}y", connector(golden[f"{case}x"], golden[f"{case}tgt_sizes"].long()), golden[f"{case}y"]


def sincos(path: Path) -> Iterator[Comparison]:
    golden = read(path)
    for key, expected in golden.tensors.items():
        match = re.fullmatch(r"d(\d+)_h(\d+)_w(\d+)(?:_(corner|last))?", key)
        assert match is not None, key
        width, rows, cols = (int(number) for number in match.groups()[:3])
        table = sincos_2d(*torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij"), width)
        height, length = expected.shape[:2]
        yield key, table[-height:, -length:] if match[4] == "last" else table[:height, :length], expected
