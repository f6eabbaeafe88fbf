# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""DeepSeek-VL hybrid of transformers 5.23: its in-tree checkpoint read by the import's rules, and its pixels."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from fila import FilaConfig, FilaForConditionalGeneration
from fila.conversion.import_checkpoint import layout_rules
from fila.conversion.key_rules import apply_rules
from fila.conversion.systems import SYSTEMS
from fila.processing.image_processing_fila import FilaImageProcessorPil
from fila.systems.recipes import load_recipe
from tests.parity.golden import Comparison, load, read


def hybrid(path: Path) -> Iterator[Comparison]:
    golden, system = read(path), SYSTEMS["deepseek-vl-hybrid"]
    source: dict[str, Any] = json.loads(golden.metadata["config"])
    settings, recipe = system.settings(source), load_recipe("deepseek-vl-hybrid").config
    config = FilaConfig(
        **recipe
        | {"vision_config": settings.low_res, "high_res_vision_config": settings.high_res}
        | {"text_config": settings.text, "image_token_id": source["image_token_id"], **settings.config}
    )
    model = FilaForConditionalGeneration(config)
    state = golden.state()
    layout = system.layout_of(state, path.name)
    moves = apply_rules(state, layout_rules(layout, config), name=path.name).moves
    weights = {move.target: move.forward(state[move.source]) if move.forward else state[move.source] for move in moves}
    load(model, {"lm_head.weight": state["lm_head.weight"], **weights})

    low, high, ids = (golden[key] for key in ("pixel_values", "high_res_pixel_values", "input_ids"))
    count, side, high_side = len(low), low.shape[-1], high.shape[-1]
    tower = model.model.vision_tower
    layers: dict[int, torch.Tensor] = {}
    for number, layer in enumerate(tower.high_res_tower.layers, start=1):
        layer.register_forward_hook(lambda module, inputs, output, number=number: layers.update({number: output}))
    maps = tower.high_res_tower(high)
    yield "sam_tap", layers[int(golden.metadata["tap"])], golden["sam_tap"]
    yield "sam_last", maps[1], golden["sam_last"]
    yield "high_features", tower.fusion.high_features((maps[1], maps[0])), golden["high_features"]
    sam = tower.low_res_tower
    hidden = sam.finish(sam.run_layers(sam.embed(low), 0, sam.num_layers))
    yield "low_hidden", hidden, golden["low_hidden"]
    images = {
        "pixel_values": low[:, None],
        "view_boxes": torch.tensor([[[0, 0, side, side]]]).expand(count, -1, -1),
        "tile_grid": torch.ones(count, 2, dtype=torch.int64),
        "high_res_pixel_values": high,
        "high_res_sizes": torch.full((count, 2), high_side),
    }
    tokens = model.get_image_features(**images).pooler_output
    yield "image_tokens", torch.stack(list(tokens)), golden["image_tokens"]
    yield "logits", model(input_ids=ids, **images).logits, golden["logits"]


def preprocess(path: Path) -> Iterator[Comparison]:
    golden = read(path)
    said = golden.metadata
    processor = FilaImageProcessorPil(
        size=int(said["low"]),
        high_res_size=int(said["high"]),
        canvas={
            "type": "redrawn_square",
            "side": int(said["high"]),
            "least": int(said["min_size"]),
            "fill": json.loads(said["high_res_background"]),
            "filter": re.findall(r"(\w+) \(low\)", said["resample"])[0],
        },
        **{name: json.loads(said[name]) for name in said if name.endswith(("_mean", "_std"))},
    )
    for case in golden.cases("image"):
        made = processor(golden[f"{case}image"].numpy(), return_tensors="pt", input_data_format="channels_last")
        yield f"{case}pixel_values", made["pixel_values"][0, 0], golden[f"{case}pixel_values"]
        yield f"{case}high_res_pixel_values", made["high_res_pixel_values"][0], golden[f"{case}high_res_pixel_values"]
