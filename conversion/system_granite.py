# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Checkpoints of Granite 4 Vision, in transformers' names, which are those of its release."""

from collections.abc import Mapping, Sequence
from typing import Any

from fila.modeling.configuration_fila import FilaConfig

from .key_rules import Drop, KeyTemplate, Pair
from .shared_templates import CONSTANT, LOW, TEXT, plain, unread
from .source_system import Settings, SourceLayout, SourceSystem, sub_config

INJECTION = "model.injection.connectors."


def projectors(source: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the name of each projector in the original, and the stream that it makes, in the original's order.

    Raises:
        ValueError: If the projectors are none that a model of ours has; names the setting.
    """
    rate = str(source.get("downsample_rate"))
    sides = rate.split("/")
    if len(sides) != 2 or not all(side.isdigit() for side in sides):
        raise ValueError(
            f"`downsample_rate` must be queries and patches per side of a window, as '4/8'; got {rate!r}."
        )
    query, window = (int(side) for side in sides)
    if 2 * query != window:
        raise ValueError(
            f"`downsample_rate` is {rate!r}: the four spatial projectors of Granite 4 Vision take one patch of each "
            "block of 2 x 2, which needs half as many queries as patches per side of a window."
        )
    qformer = source.get("qformer_config") or {}
    for name, ours in (("hidden_act", "gelu"), ("cross_attention_frequency", 1), ("use_qformer_text_input", False)):
        if qformer.get(name, ours) != ours:
            raise ValueError(f"`qformer_config.{name}` is {qformer[name]!r}; the connector has {ours!r} alone.")
    connector = {
        "type": "window_qformer",
        "query_side": query,
        "window_side": window,
        "num_layers": qformer.get("num_hidden_layers", 1),
        "intermediate_size": qformer.get("intermediate_size", 3072),
        "dropout": source.get("projector_dropout", 0.1),
        "layer_norm_eps": qformer.get("layer_norm_eps", 1e-12),
    }
    found: list[tuple[str, dict[str, Any]]] = []
    for number, (layer, before) in enumerate(source.get("deepstack_layer_map") or ()):
        found.append(
            (f"layerwise_projectors.{number}", {"layer": layer, "before": before, "connector": dict(connector)})
        )
    targets = source.get("spatial_target_layers") or [12, 15, 18, 21]
    for corner, before in enumerate(targets):
        stream = {
            "layer": source.get("spatial_vision_layer", -1),
            "before": before,
            "connector": {**connector, "corner": corner},
        }
        found.append((f"spatial_projectors.{corner}", stream))
    return found


def granite4_settings(source: Mapping[str, Any]) -> Settings:
    """Return the settings of a Granite 4 Vision checkpoint.

    Raises:
        ValueError: If two projectors are added before one layer, or a setting has a value that our model cannot have.
    """
    named = projectors(source)
    taken: dict[int, str] = {}
    for name, stream in named:
        if (other := taken.get(stream["before"])) is not None:
            raise ValueError(
                f"Projectors {other} and {name} of this checkpoint are both added before layer {stream['before']} of "
                "the language model. Its own class keeps the last one alone, whose model has no place for the other's "
                "weights; remove the other from its config and its weights."
            )
        taken[stream["before"]] = name
    low_res = sub_config(source.get("vision_config"), "clip_vision_model") or {}
    has_cls = low_res.get("model_type") == "clip_vision_model"
    chosen = source.get("vision_feature_select_strategy", "default")
    if chosen != ("default" if has_cls else "full"):
        raise ValueError(
            f"`vision_feature_select_strategy` is {chosen!r}, which leaves {low_res.get('model_type')!r} no whole "
            "grid of patches."
        )
    text = dict(source.get("text_config") or {})
    if text.get("model_type") == "granitemoehybrid":  # what some copies name; the class and the weights are Granite's
        if any(kind != "attention" for kind in text.get("layer_types") or ()):
            raise ValueError(
                "`text_config.layer_types` names layers without attention, which Granite 4 Vision has not."
            )
        text["intermediate_size"] = text.get("shared_intermediate_size", text.get("intermediate_size"))
    side, depth = low_res.get("image_size", 384), low_res.get("num_hidden_layers", 27)
    read = [layer if layer >= 0 else depth + 1 + layer for layer in (stream["layer"] for _, stream in named)]
    canvas: dict[str, Any] = {"type": "llava_next"}
    if pinpoints := source.get("image_grid_pinpoints"):
        canvas["tile_grids"] = [[height // side, width // side] for height, width in pinpoints]
    return Settings(
        low_res=low_res,
        text=sub_config({**text, "model_type": "granite"}, "granite"),
        config={
            "connector": {key: value for key, value in named[0][1]["connector"].items() if key != "corner"},
            "injection": {"type": "streams", "input": "zero", "streams": [stream for _, stream in named]},
            "vision_feature_layer": max(1, *read),
            "tie_word_embeddings": source.get("tie_word_embeddings", False),
        },
        image_processor={"canvas": canvas},
    )


def _templates(tower: str) -> Any:
    def templates(config: FilaConfig) -> Sequence[KeyTemplate]:
        found: list[KeyTemplate] = []
        layerwise = 0
        for number, stream in enumerate(config.injection["streams"]):
            corner = (stream.get("connector") or config.connector).get("corner")
            name = f"layerwise_projectors.{layerwise}" if corner is None else f"spatial_projectors.{corner}"
            layerwise += corner is None
            found.append(Pair(f"model.{name}.{{rest}}", f"{INJECTION}{number}.{{rest}}"))
        return [
            *found,
            *plain(tower, LOW, "embeddings.{rest}", "pre_layrnorm.{leaf}", "encoder.layers.{i}.{rest}"),
            Pair("model.image_newline", "model.image_newline"),
            Pair("model.language_model.{rest}", f"{TEXT}{{rest}}"),
            Pair("lm_head.weight", "lm_head.weight"),
        ]

    return templates


def _drops(tower: str) -> Any:
    def drops(config: FilaConfig) -> Sequence[Drop]:
        return [
            Drop(f"{tower}embeddings.position_ids", CONSTANT),
            Drop("{rest}.rotary_emb.inv_freq", CONSTANT),
            Drop(f"{tower}post_layernorm.{{leaf}}", "the projectors read hidden states without it"),
            Drop(f"{tower}head.{{rest}}", "it pools the patches, and nothing reads the result"),
            *unread(f"{tower}encoder.layers.", config.num_vision_layers, config.vision_config.num_hidden_layers),
        ]

    return drops


GRANITE4_VISION = SourceSystem(
    name="granite4-vision",
    recipes=("granite4-vision",),
    layouts=tuple(
        SourceLayout(
            f"transformers' names, {tower}*",
            f"{tower}embeddings.patch_embedding.weight",
            _templates(tower),
            _drops(tower),
        )
        for tower in ("model.vision_tower.", "model.vision_tower.vision_model.")
    ),
    settings=granite4_settings,
)
