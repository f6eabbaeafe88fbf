# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""MiniCPM-V 2.6: embeddings of unequal views, resampler and its positions."""

import math
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import SiglipVisionConfig

from fila.modeling.connector_resampler import ResamplerConnector
from fila.modeling.connector_sincos import sincos_2d
from fila.modeling.tower_siglip import SiglipEmbeddings
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


def siglip_embeddings(path: Path) -> Iterator[Comparison]:
    golden = read(path)
    state = golden.state()
    width, _, patch, _ = state["patch_embedding.weight"].shape
    embeddings = SiglipEmbeddings(
        SiglipVisionConfig(
            hidden_size=width,
            patch_size=patch,
            image_size=patch * math.isqrt(len(state["position_embedding.weight"])),
            tower_options={"positions": "buckets"},
        )
    )
    load(embeddings, state)
    for case in golden.cases("tgt_sizes"):
        ours = embeddings(golden[f"{case}pixel_values"], golden[f"{case}tgt_sizes"].long())
        yield f"{case}embeddings", ours, golden[f"{case}embeddings"]
