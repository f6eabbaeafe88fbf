# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""PixelPrune and VisionZip, restated: the originals were not run. VisionZip reads transformers' CLIP."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from fila.modeling.pruning import assign
from fila.processing.token_pruning import kept_cells, same_cells
from tests.helpers import single_tower, tiny_config, tiny_model
from tests.parity.golden import Comparison, read, read_json


def _kept(same: tuple[np.ndarray, np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.flatnonzero(kept_cells(*same)))


def grids(path: Path) -> Iterator[Comparison]:
    for number, case in enumerate(read_json(path)["cases"]):
        grid = np.array(case["grid"])[None]
        yield f"grid {number}", _kept(same_cells(grid, grid.shape[1:])), torch.tensor(case["keep"])


def pixels(path: Path) -> Iterator[Comparison]:
    golden = read(path)
    side = int(golden.metadata["patch"]) * int(golden.metadata["merge"])
    image = golden["image"].numpy().transpose(2, 0, 1)
    grid = image.shape[1] // side, image.shape[2] // side
    normalised = (image / np.float32(255) - np.float32(0.4)) / np.float32(0.27)
    for name, levels in (("uint8", image), ("normalised", normalised)):
        yield name, _kept(same_cells(levels, grid)), golden["keep"]
    ids = golden["cell_ids"].numpy()[None]
    yield "ids", _kept(same_cells(ids, ids.shape[1:])), golden["keep"]


def visionzip(path: Path) -> Iterator[Comparison]:
    golden = read(path)
    config = json.loads(golden.metadata["config"])
    prune = {"type": "visionzip", **{name: int(golden.metadata[name]) for name in ("dominant", "contextual")}}
    wide = {"hidden_size": config["hidden_size"], "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    model = tiny_model(
        **single_tower(vision_config=config, prune=prune, connector={"type": "identity"}),
        text_config=tiny_config().text_config.to_dict() | wide,
    )
    vision, images, hidden = model.model.vision_tower, golden["pixel_values"], golden["hidden"]
    tower = vision.low_res_tower
    tower.load_state_dict({name: golden[f"sd.{name}"] for name in tower.state_dict()})
    (views, *_), side = images.shape, images.shape[-1]
    boxes, tiles = torch.tensor([[[0, 0, side, side]]] * views), torch.tensor([[1, 1]] * views)
    made = vision(images[:, None], boxes, tiles, return_dict=True)
    kept = golden["kept"]
    yield "kept, from pixels", made.chosen + 1, kept[:, 1:]
    yield "out, from pixels", made.last_hidden_state, golden["out"]
    zipped, keys = vision.visionzip, golden["metric"][:, 1:]
    before = tower.run_layers(tower.embed(images), 0, tower.num_layers - 1)
    scores, own_keys = zipped.received(tower.layers[-1], before)
    recorded = golden["attention"][:, :, 0, 1:].sum(dim=1)
    yield "attention of CLS", scores, recorded
    yield "keys", own_keys, keys
    tokens, chosen = zipped(hidden[:, 1:], hidden[:, :1], recorded, keys)
    yield "kept", chosen + 1, kept[:, 1:]
    yield "out", tokens, golden["out"]
    patches = torch.arange(hidden.shape[1])
    rest = torch.stack([patches[~torch.isin(patches, own)] for own in kept])
    places = (rest - 1)[..., None].expand(-1, -1, keys.shape[2])
    targets, members, nearest = assign(keys.gather(1, places), zipped.contextual)
    yield "targets", rest[:, targets], golden["targets"]
    yield "assigned", torch.stack([rest[:, members], rest[:, targets].gather(1, nearest)], dim=2), golden["assigned"]
