# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""DeepSeek-OCR's encoder, projector and layout, as transformers' `unlimited_ocr` computes them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig

from fila import FilaConfig
from fila.conversion.key_rules import apply_rules
from fila.conversion.system_deepseek_ocr import DEEPSEEK_OCR, deepseek_ocr_settings
from fila.modeling.modeling_fila import FilaModel
from fila.modeling.towers import low_res_grid
from fila.processing.layout import LAYOUTS, Geometry, lay_out, token_indices
from tests.parity.golden import Comparison, Golden, read


def model_of(golden: Golden) -> FilaModel:
    """The recipe at the recorded sizes, with the recorded weights by the import's rules; a stand-in language model."""
    source = json.loads(golden.metadata["config"])
    settings = deepseek_ocr_settings(source)
    width = source["text_config"]["hidden_size"]
    text = LlamaConfig(
        hidden_size=width, intermediate_size=8, num_attention_heads=1, num_hidden_layers=1, vocab_size=32
    )
    local = "pixel_values_local" if "pixel_values_local" in golden else "pixel_values"
    low = {**settings.low_res, "tower_options": {"positions": "bicubic_antialias"}}
    config = FilaConfig.from_recipe(
        "deepseek-ocr", low_res=low, high_res=settings.high_res, text=text, tile_size=golden[local].shape[-1]
    )
    model = FilaModel(config).eval()
    weights = golden.state()
    layout = DEEPSEEK_OCR.layout_of(weights, "the recording")
    plan = apply_rules(weights, [*layout.drops(config), *layout.templates(config)], name="the recording")
    state = {move.target.removeprefix("model."): weights[move.source] for move in plan.moves}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected, unexpected
    assert all(key.startswith("language_model.") for key in missing), missing
    return model


def packed(views: list[torch.Tensor], patch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Views with their patches side by side, `(V, 3, p, L * p)`, and the patches per axis of each."""
    grids = [(view.shape[1] // patch, view.shape[2] // patch) for view in views]
    longest = max(rows * cols for rows, cols in grids) * patch
    rows = []
    for view, (height, width) in zip(views, grids, strict=True):
        tiles = view.unflatten(2, (width, patch)).unflatten(1, (height, patch)).permute(0, 2, 1, 3, 4)
        row = tiles.reshape(3, patch, -1)
        rows.append(torch.nn.functional.pad(row, (0, longest - row.shape[2])))
    return torch.stack(rows), torch.tensor(grids)


def images_of(golden: Golden, config: FilaConfig) -> dict[str, Any]:
    """The recorded pixels as our processor gives them, with the order of the tokens."""
    grids = json.loads(golden.metadata["grids_cols_rows"])
    counts = json.loads(golden.metadata["num_local"])
    tiles = iter(golden.tensors.get("pixel_values_local", ()))
    inputs: dict[str, list[Any]] = {
        name: [] for name in ("pixel_values", "patch_grids", "view_boxes", "tile_grid", "image_token_index")
    }
    for overview, (cols, rows), count in zip(golden["pixel_values"], grids, counts, strict=True):
        views = [overview, *[next(tiles) for _ in range(count)]]
        pixels, patches = packed(views, config.patch_size)
        sides = [low_res_grid(config, view.shape[1], view.shape[2])[0] for view in views]
        geometry = Geometry(
            (rows, cols) if count else (1, 1),
            tuple(side * side for side in sides),
            tile_token_grid=(sides[-1], sides[-1]),
            overview_token_grid=(sides[0], sides[0]),
        )
        inputs["pixel_values"].append(pixels)
        inputs["patch_grids"].append(patches)
        inputs["view_boxes"].append(torch.tensor([[0, 0, 1, 1]] * len(views)))
        inputs["tile_grid"].append(torch.tensor(geometry.tile_grid))
        inputs["image_token_index"].append(torch.tensor(token_indices(lay_out(LAYOUTS["deepseek_ocr"], geometry))))
    return inputs


def encoder(path: Path) -> Iterator[Comparison]:
    """SAM's map, the ViT's output with CLS, both joined, and the tokens of each image in the order of the prompt."""
    golden = read(path)
    model = model_of(golden)
    vision = model.vision_tower
    for name, pixels in (("global", "pixel_values"), ("local", "pixel_values_local")):
        if pixels not in golden:
            continue
        low = []
        handle = vision.low_res_tower.layers[-1].register_forward_hook(
            lambda module, args, output, low=low: low.append(output[0] if isinstance(output, tuple) else output)
        )
        views = golden[pixels]
        patches, grids = packed([*views], vision.config.patch_size)
        boxes, alone = torch.tensor([[[0, 0, 1, 1]]] * len(views)), torch.tensor([[1, 1]] * len(views))
        features = vision(patches[:, None], boxes, alone, patch_grids=grids[:, None]).last_hidden_state
        handle.remove()
        for case, ours in (
            (f"sam_map_{name}", vision.high_res_tower(views)),
            (f"clip_{name}", low[0]),
            (f"features_{name}", features),
        ):
            if case in golden:
                yield case, ours, golden[case]
    found = model.get_image_features(**images_of(golden, vision.config)).pooler_output
    for number, tokens in enumerate(found):
        yield f"image_tokens.{number}", tokens, golden[f"image_tokens.{number}"]
