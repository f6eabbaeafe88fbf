# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The fusions of the Open-AutoGLM article, whose own arithmetic was recorded."""

from collections.abc import Iterator
from pathlib import Path

import torch

from fila.modeling.fusion_scale_softmax import ScaleSoftmax
from fila.modeling.fusion_spatial_gate import SpatialGate
from fila.modeling.fusion_upsample_concat import upsample_concat
from tests.goldens import numbers_in
from tests.parity.golden import Comparison, load, read


def scale_softmax(path: Path) -> Iterator[Comparison]:
    golden = read(path)
    scales = [golden[f"in/fuse_{number}"] for number in numbers_in(golden.tensors, r"in/fuse_(\d+)")]
    module = ScaleSoftmax(len(scales))
    yield "out/weighted_init", module(scales), golden["out/weighted_init"]
    load(module, {"weights": golden["in/fuse_logits"]})
    yield "out/weighted", module(scales), golden["out/weighted"]


def spatial_gate(path: Path) -> Iterator[Comparison]:
    golden = read(path)
    module = SpatialGate(golden["in/hi"].shape[1])
    load(module, {"conv.weight": golden["in/gate_w"], "conv.bias": golden["in/gate_b"]})
    yield "out/spatial_gate", module(golden["in/hi"]), golden["out/spatial_gate"]


def concat(path: Path) -> Iterator[Comparison]:
    golden = read(path)
    ours: torch.Tensor = upsample_concat(golden["in/hi"], golden["in/lo"])
    yield "out/upsample_concat", ours, golden["out/upsample_concat"]
