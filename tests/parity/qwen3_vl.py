# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Qwen3-VL: its mergers, and streams between layers of the language model, which is Qwen3 with counted positions."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import torch

from fila.modeling.connector_merger import MergerConnector
from fila.modeling.injection_layers import extend_layers, run_with_streams
from tests.helpers import tiny_config
from tests.parity.golden import Comparison, read
from tests.parity.granite4 import text_model


def language_model(path: Path) -> Iterator[Comparison]:
    golden = read(path)
    layers = [after + 1 for after in json.loads(golden.metadata["after_layers"])]
    model = text_model("qwen3", json.loads(golden.metadata["config"]), golden)
    inputs = {"inputs_embeds": golden["inputs_embeds"]}
    if "without" in golden:
        yield "without", model(**inputs).last_hidden_state, golden["without"]
    extend_layers(model, layers)
    read_by = {}
    for number in layers:  # what a layer reads is what its predecessor made, and the stream

        def keep(module: object, args: tuple, number: int = number) -> None:  # type: ignore[type-arg]
            read_by[number - 1] = args[0]

        model.layers[number].register_forward_pre_hook(keep)
    streams = [golden[f"feature.{layer - 1}"] for layer in layers]
    places = golden["visual_pos_masks"].bool()[..., None]
    outputs = run_with_streams(model, layers, places, streams, **inputs)
    yield "last_hidden_state", outputs.last_hidden_state, golden["last_hidden_state"]
    for key in golden.tensors:
        if found := re.fullmatch(r"after_layer\.(\d+)", key):
            yield key, read_by[int(found[1])], golden[key]


NAMES = {"norm": "pre_norm", "linear_fc1": "linear_1", "linear_fc2": "linear_2"}


def row_by_row(features: torch.Tensor, rows: int, cols: int) -> torch.Tensor:
    """Return features `(P, D)`, which stand block by block there, row by row."""
    return features.unflatten(0, (rows // 2, cols // 2, 2, 2)).transpose(1, 2).flatten(0, 3)


@torch.no_grad()
def mergers(path: Path) -> Iterator[Comparison]:
    golden = read(path)
    streams = sorted(int(key.split(".")[1]) for key in golden.tensors if key.startswith("deepstack."))
    read_by = {f"deepstack_merger_list.{number}": (f"block_out.{number}", f"deepstack.{number}") for number in streams}
    for name, (source, made) in {"merger": ("vision_last", "vision_pooled"), **read_by}.items():
        features, expected = golden[source], golden[made]
        config = tiny_config()
        config.text_config.hidden_size = expected.shape[-1]
        merger = MergerConnector(config, input_size=features.shape[-1], norm_first=name == "merger")
        prefix = f"sd.model.visual.{name}."
        own = {key.removeprefix(prefix): value for key, value in golden.tensors.items() if key.startswith(prefix)}
        merger.load_state_dict(
            {f"mlp.0.{NAMES[key.split('.')[0]]}.{key.split('.')[1]}": value for key, value in own.items()}
        )
        grids = [(int(rows), int(cols)) for times, rows, cols in golden["image_grid_thw"] for _ in range(int(times))]
        views = features.split([rows * cols for rows, cols in grids])
        tokens = [merger(row_by_row(view, *grid)[None], grid)[0] for view, grid in zip(views, grids, strict=True)]
        yield name, torch.cat(tokens), expected
