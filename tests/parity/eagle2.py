# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Eagle2, restated from its published code: SigLIP and a ConvNeXt on single views, and the projector.

The recordings come from a restatement; NVIDIA's code was not run.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from fila import FilaConfig, FilaVisionModel
from fila.modeling.connector import build_connector
from fila.modeling.fusion_channel_concat import stack_blocks
from fila.modeling.image_resize import resize
from fila.modeling.view_from_low_res import views_from_low_res
from fila.systems.recipes import load_recipe
from tests.parity.golden import Comparison, Golden, load, read
from tests.parity.llava_hr import convnext_state

TOWERS = "vision_model.vision_model.vision_towers."


def tower_config(golden: Golden) -> FilaConfig:
    """The recipe at the sizes of a recording."""
    recipe = load_recipe("eagle2").config
    siglip: dict[str, Any] = json.loads(golden.metadata["siglip_config"])
    convnext: dict[str, Any] = json.loads(golden.metadata["convnext"])
    factor = round(1 / float(golden.metadata["downsample_ratio"]))
    options = {"norm_eps": convnext["norm_eps"], "encodes": "views", "input_size": convnext["input"]}
    return FilaConfig(
        vision_config={**siglip, "tower_options": {"input_size": siglip["image_size"]}},
        high_res_vision_config={
            "model_type": "convnext",
            "hidden_sizes": convnext["dims"],
            "depths": convnext["depths"],
            "tower_options": options,
        },
        text_config={"hidden_size": int(golden.metadata["llm"]), "num_attention_heads": 1},
        fusion={**recipe["fusion"], "shuffle": [factor, 1]},
        connector=recipe["connector"],
        vision_feature_layer=recipe["vision_feature_layer"],
        high_res_views=recipe["high_res_views"],
        tile_size=int(golden.metadata["tile"]),
    )


@torch.no_grad()
def encoder(path: Path) -> Iterator[Comparison]:
    golden = read(path)
    config = tower_config(golden)
    model = FilaVisionModel(config)
    siglip = golden.state(f"{TOWERS}0.vision_tower.vision_model.")
    convnext = golden.state(f"{TOWERS}1.vision_tower.")
    weights = {f"low_res_tower.{key}": value for key, value in siglip.items() if not key.startswith("head.")}
    load(model, weights | {f"high_res_tower.{key}": value for key, value in convnext_state(convnext).items()})
    connector: Any = build_connector(config, model.fusion.output_size)
    names = {"0": "norm", "1": "linear_1", "3": "linear_2"}
    state = golden.state("mlp1.")
    load(connector, {f"{names[key.split('.')[0]]}.{key.split('.')[1]}": value for key, value in state.items()})

    views = golden["pixel_values"]
    low_side, high_side = (golden[key].shape[-1] for key in ("siglip_input", "convnext_input"))
    yield "siglip_input", resize(views, (low_side, low_side), "corners"), golden["siglip_input"]
    high = resize(views_from_low_res(config, views), (high_side, high_side), "corners")
    yield "convnext_input", high, golden["convnext_input"]
    tower = model.low_res_tower
    low = tower.finish(tower.run_layers(tower.embed(views), 0, tower.num_layers))
    yield "siglip", low, golden["siglip"]
    factor = model.fusion.shuffle[0]
    blocks = stack_blocks(low.transpose(1, 2).unflatten(2, config.patch_grid), factor)
    yield "siglip_shuffled", blocks.flatten(2).transpose(1, 2), golden["siglip_shuffled"]
    maps = model.high_res_tower(views_from_low_res(config, views))
    yield "convnext", maps[-1].flatten(2).transpose(1, 2), golden["convnext"]

    # an image of one row of tiles without a thumbnail
    side, count = config.tile_size, len(views)
    boxes = torch.tensor([[[0, col * side, side, (col + 1) * side] for col in range(count)]])
    joined = model(views[None], boxes, torch.tensor([[1, count]])).last_hidden_state
    yield "joined", joined, golden["joined"]
    yield "out", connector(joined, model.fusion.output_grid), golden["out"]
    alone = model(views[None, :1], boxes[:, :1], torch.tensor([[1, 1]])).last_hidden_state
    yield "joined, one tile alone", alone, golden["joined"][:1]
