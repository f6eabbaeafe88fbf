# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""MiniCPM-V 2.6: embeddings of unequal views, resampler and its positions; 4.6: the mergers of its tower."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from transformers import SiglipVisionConfig

from fila import FilaConfig, FilaModel
from fila.modeling.connector_resampler import ResamplerConnector
from fila.modeling.connector_sincos import sincos_2d
from fila.modeling.image_plan import ImagePlan
from fila.modeling.tower_siglip import SiglipEmbeddings
from tests.parity.golden import Comparison, Golden, load, read, text_width


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


def merger_inside(path: Path) -> Iterator[Comparison]:
    """MiniCPM-V 4.6's tower and final merger in both modes, its views together and each alone."""
    golden = read(path)
    settings, grids = json.loads(golden.metadata["config"]), golden["target_sizes"].long()
    patch, counts = settings["patch_size"], grids.prod(dim=-1).tolist()
    parts = golden["pixel_values"][0].split([count * patch for count in counts], dim=-1)
    for mode, merge_after in (("16x", settings["insert_layer_id"] + 1), ("4x", None)):
        model = minicpm_v_4_6(settings, golden, merge_after)
        tower = model.vision_tower.low_res_tower

        def features(images: list[int], model: FilaModel = model) -> list[torch.Tensor]:
            plan = {
                "view_boxes": [torch.tensor([[0, 0, *(grids[image] * patch).tolist()]]) for image in images],
                "tile_grid": torch.ones(len(images), 2, dtype=torch.int64),
                "patch_grids": [grids[image, None] for image in images],
            }
            encoded = model.vision_tower([parts[image][None] for image in images], **plan).last_hidden_state
            plan_of = ImagePlan.of(plan["view_boxes"], plan["tile_grid"], None, plan["patch_grids"])
            lengths = model.vision_tower.grid_of(grids[images]).prod(dim=-1).tolist()
            hidden = torch.cat([view[:length] for view, length in zip(encoded, lengths, strict=True)])
            return [hidden, *model.image_tokens(encoded, plan_of)]

        hidden, *tokens = features(list(range(len(grids))))
        yield f"last_hidden_{mode}", hidden, golden[f"last_hidden_{mode}"][0]
        numbers = sorted(int(key.rpartition(".")[2]) for key in golden.tensors if key.startswith(f"tokens_{mode}."))
        for at, number in enumerate(numbers):
            image = number if numbers[-1] < len(grids) else at
            recorded = golden[f"tokens_{mode}.{number}"]
            yield f"tokens_{mode}.{number}", tokens[image], recorded
            yield f"tokens_{mode}.{number}, alone", features([image])[1], recorded
        views = torch.stack([F.pad(part, (0, max(counts) * patch - part.shape[-1])) for part in parts])
        low = tower.embed(views, grids)
        options = {"attention_mask": tower.attention_mask(low, grids), "patch_grids": grids}
        stages = {"embeddings": 0, "before_merger": settings["insert_layer_id"] + 1}
        if merge_after is not None:
            stages = {"after_merger": merge_after}
        for key, stop in stages.items():
            found = tower.run_layers(low, 0, stop, **options)
            lengths = [count // 4 if key == "after_merger" else count for count in counts]
            yield key, torch.cat([view[:n] for view, n in zip(found, lengths, strict=True)]), golden[key][0]


def minicpm_v_4_6(settings: dict[str, Any], golden: Golden, merge_after: int | None) -> FilaModel:
    """Return the model with the recorded vision weights; its language model is a stub of the recorded width."""
    state = golden.state()
    names = SiglipVisionConfig().to_dict().keys() - {"model_type", "transformers_version", "dtype"}
    options = {"positions": "buckets", "norm": True, "merge_after": merge_after}
    tile = math.lcm(4, 2 ** (1 + int(golden.metadata["merger_times"]))) * settings["patch_size"]
    width = max(golden[key].shape[-1] for key in golden.tensors if key.startswith("tokens_"))
    text = {"model_type": "llama", "hidden_size": width, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = FilaModel(
        FilaConfig(
            vision_config={
                **{name: settings[name] for name in names & settings.keys()},
                "model_type": "siglip_vision_model",
                "tower_options": options,
            },
            high_res_vision_config=None,
            text_config={**text, "head_dim": 2, "intermediate_size": 1, "vocab_size": 3},
            connector={"type": "merger", "times": int(golden.metadata["merger_times"])},
            vision_feature_layer=-1,
            tile_size=tile,
            image_token_id=0,
        )
    )
    tower = {key.removeprefix("vision_tower."): value for key, value in state.items() if key.startswith("vision_t")}
    load(
        model.vision_tower.low_res_tower,
        {key: value for key, value in tower.items() if merge_after or not key.startswith("vit_merger.")},
    )
    load(
        model.multi_modal_projector,
        {key.removeprefix("merger."): value for key, value in state.items() if key.startswith("merger.")},
    )
    return model.eval()
