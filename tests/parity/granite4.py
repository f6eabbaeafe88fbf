# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Granite 4 Vision: its projector, streams before layers of the language model alone, and the whole model."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoConfig, AutoModel

from fila import FilaConfig, FilaForConditionalGeneration
from fila.conversion.import_checkpoint import layout_rules
from fila.conversion.key_rules import apply_rules
from fila.conversion.system_granite import GRANITE4_VISION, INJECTION, granite4_settings, projectors
from fila.modeling.connector_window_qformer import WindowQFormerConnector
from fila.modeling.injection_layers import extend_layers, run_with_streams
from fila.systems.recipes import config_settings, load_recipe, processor
from tests.helpers import tiny_tokenizer
from tests.parity.golden import Comparison, Golden, load, read, text_width


def projector(path: Path) -> Iterator[Comparison]:
    golden = read(path)
    query, window = (int(side) for side in golden.metadata["rate"].split("/"))
    qformer, side = json.loads(golden.metadata["qformer"]), int(golden.metadata["side"])
    for key in golden.tensors:
        if (found := re.fullmatch(r"out\.(mean|corner(\d))(?:_weights_of_(\w+))?", key)) is None:
            continue
        state = golden.state(f"{found[3] or found[1]}.") or golden.state()
        connector = WindowQFormerConnector(
            text_width(len(state["out_linear.bias"])),
            input_size=qformer["hidden_size"],
            query_side=query,
            window_side=window,
            corner=None if found[2] is None else int(found[2]),
            num_layers=qformer["num_hidden_layers"],
            intermediate_size=qformer["intermediate_size"],
            num_heads=qformer["num_attention_heads"],
            layer_norm_eps=qformer["layer_norm_eps"],
        )
        load(connector, state)
        yield key, connector(golden["features"], (side, side)), golden[key]


def language_model(path: Path) -> Iterator[Comparison]:
    golden = read(path)
    layers = json.loads(golden.metadata["before_layers"])
    model = text_model("granite", json.loads(golden.metadata["config"]), golden)
    extend_layers(model, layers)
    streams = [golden[f"feature.{layer}"] for layer in layers]
    places = golden["image_positions"].bool()[..., None]
    outputs = run_with_streams(model, layers, places, streams, inputs_embeds=golden["inputs_embeds"])
    yield "last_hidden_state", outputs.last_hidden_state, golden["last_hidden_state"]


def text_model(model_type: str, config: dict[str, Any], golden: Golden) -> Any:
    """A language model of transformers with the recorded weights."""
    settings = {key: value for key, value in config.items() if key not in ("model_type", "rope_parameters")}
    rope = {key: value for key, value in config["rope_parameters"].items() if not key.startswith("mrope")}
    model = AutoModel.from_config(AutoConfig.for_model(model_type, **settings, rope_parameters=rope))
    load(model, golden.state())
    return model


def whole_model(path: Path) -> Iterator[Comparison]:
    golden = read(path)
    source = json.loads(golden.metadata["config"])
    numbers, model = imported(source, golden.state())
    batch = inputs_of(golden, source, model)
    features = model.get_image_features(
        **{
            key: batch[key] for key in batch if "image" in key or "view" in key or key in ("pixel_values", "tile_grid")
        },
        return_dict=True,
    )
    for key in golden.tensors:
        if (found := re.fullmatch(r"injected\.(\d+)\.(\d+)", key)) and int(found[1]) in numbers:
            yield key, features.deepstack_features[numbers.index(int(found[1]))][int(found[2])], golden[key]
    outputs = model(**batch, output_hidden_states=True)
    for number, hidden in enumerate(outputs.hidden_states):
        if f"hidden.{number}" in golden:
            yield f"hidden.{number}", hidden, golden[f"hidden.{number}"]
    yield "logits", outputs.logits, golden["logits"]
    yield from generated(model, batch, golden)


def generated(model: Any, batch: dict[str, Any], golden: Golden) -> Iterator[Comparison]:
    """Answers, greedy with the logits of each step, and of beams with their scores."""
    model._generation_config.suppress_tokens = None  # the reference may write placeholders
    length = batch["input_ids"].shape[1]
    several = any(len(row) > 1 for row in json.loads(golden.metadata["rows"]))
    for key in golden.cases(".sequences"):
        beams = int(key.removeprefix("beam")) if key.startswith("beam") else 1
        if beams > 1 and several:  # the class gives the beams of a prompt the images A A B B instead of A B A B
            continue
        count = golden[f"{key}.sequences"].shape[1] - length
        found = model.generate(
            **batch,
            num_beams=beams,
            do_sample=False,
            max_new_tokens=count,
            min_new_tokens=count,
            return_dict_in_generate=True,
            output_logits=beams == 1,
            output_scores=True,
        )
        yield f"{key}.sequences", found.sequences, golden[f"{key}.sequences"]
        if f"{key}.logits" in golden:
            yield f"{key}.logits", torch.stack(found.logits, dim=1), golden[f"{key}.logits"]
        if f"{key}.scores" in golden:
            yield f"{key}.scores", found.sequences_scores, golden[f"{key}.scores"]


def imported(source: dict[str, Any], state: dict[str, torch.Tensor]) -> tuple[list[int], Any]:
    """A model with the recorded weights, and the numbers of the streams that the reference adds.

    Of two projectors before one layer the reference keeps the last. An import refuses them, so they are left out here.
    """
    named = projectors(source)
    last = {stream["before"]: number for number, (_, stream) in enumerate(named)}
    numbers = sorted(last.values())
    alone = source | {"deepstack_layer_map": [], "spatial_target_layers": [-1, -2, -3, -4]}  # no two alike
    settings = granite4_settings(alone)
    streams = [named[number][1] for number in numbers]
    depth = settings.low_res["num_hidden_layers"]
    made = config_settings(load_recipe("granite4-vision")) | settings.config
    made |= {
        "vision_config": {**settings.low_res, "tower_options": {"norm": False}},
        "text_config": settings.text,
        "image_token_id": source["image_token_index"],
        "injection": made["injection"] | {"streams": streams},
        "vision_feature_layer": max(
            layer if layer >= 0 else depth + 1 + layer for layer in (s["layer"] for s in streams)
        ),
    }
    config = FilaConfig(**made)
    model = FilaForConditionalGeneration(config).eval()
    ours = {
        f"{INJECTION}{index}.{key.removeprefix(f'model.{named[number][0]}.')}": tensor
        for index, number in enumerate(numbers)
        for key, tensor in state.items()
        if key.startswith(f"model.{named[number][0]}.")
    }
    rest = {key: tensor for key, tensor in state.items() if "_projectors." not in key}
    layout = GRANITE4_VISION.layout_of(rest, "golden")
    for move in apply_rules(rest, layout_rules(layout, config), name="golden").moves:
        ours[move.target] = rest[move.source]
    model.load_state_dict(ours)
    return numbers, model


def inputs_of(golden: Golden, source: dict[str, Any], model: Any) -> dict[str, Any]:
    """The recorded ids and pixels, and what our processor says of images of these sizes."""
    side = source["vision_config"]["image_size"]
    grids = [[height // side, width // side] for height, width in source["image_grid_pinpoints"]]
    images = {"canvas": {"type": "llava_next", "tile_grids": grids}}
    made = processor(load_recipe("granite4-vision"), model.config, tiny_tokenizer(), image_processor=images)
    views: dict[str, list[torch.Tensor]] = {
        "view_boxes": [],
        "tile_grid": [],
        "image_token_index": [],
        "pixel_values": [],
    }
    for pixels, (height, width) in zip(golden["pixel_values"], golden["image_sizes"].tolist(), strict=True):
        own = made(text=made.image_token, images=Image.new("RGB", (width, height)), return_tensors="pt")
        for key in ("view_boxes", "tile_grid", "image_token_index"):
            views[key].append(own[key][0])
        views["pixel_values"].append(pixels[: len(own["view_boxes"][0])])
    return {"input_ids": golden["input_ids"], "attention_mask": golden["attention_mask"], **views}
