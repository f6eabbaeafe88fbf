# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Checkpoints of VideoLLaMA 2 in their own layout: LLaVA's, with a connector for clips.

Key lists: DAMO-NLP-SG/VideoLLaMA2 @ c0bb03a and its released sizes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fila.modeling.configuration_fila import FilaConfig

from .key_rules import Drop, KeyTemplate
from .shared_templates import CONNECTOR, LOW, clip, clip_drops, llama, llama_drops, plain
from .source_system import Settings, SourceLayout, SourceSystem, text_fields

_TOWER = "model.vision_tower.vision_tower.vision_model."
# `mm_projector_type` of the original, and the connector here.
PROJECTORS = {
    "spatial_conv": "spatial_conv",
    "spatial_pool": "spatial_pool",
    "stc_connector": "stc",
    "stc_connector_v35": "stc_v35",
    "stp_connector": "stp",
}


def clip_connector(prefix: str = "model.mm_projector.") -> list[KeyTemplate]:
    """Return the rules for a connector of `connector_stc.py`, whose weights keep the original's names."""
    return plain(prefix, CONNECTOR, "s1.{rest}", "s2.{rest}", "sampler.0.{leaf}", "readout.{i}.{leaf}")


def _templates(config: FilaConfig) -> Sequence[KeyTemplate]:
    tower = clip(_TOWER)
    if config.vision_config.model_type == "siglip_vision_model":
        tower = plain(_TOWER, LOW, "embeddings.{rest}", "encoder.layers.{i}.{rest}")
    return [*tower, *clip_connector(), *llama()]


def _drops(config: FilaConfig) -> Sequence[Drop]:
    drops = [*clip_drops(_TOWER, config), *llama_drops()]
    return [*drops, Drop(f"{_TOWER}head.{{rest}}", "it pools the patches, which nothing reads")]


def _settings(source: Mapping[str, Any]) -> Settings:
    kind = "qwen2" if "qwen2" in str(source.get("model_type")) else "mistral"
    config: dict[str, Any] = {}
    if (name := source.get("mm_projector_type", "stc_connector")) not in PROJECTORS:
        raise ValueError(f"`mm_projector_type` of the source must be one of {sorted(PROJECTORS)}; got {name!r}.")
    config["connector"] = {"type": PROJECTORS[name], "image_frames": int(source.get("num_frames") or 8)}
    if "mm_vision_select_layer" in source:
        config["vision_feature_layer"] = source["mm_vision_select_layer"]
    return Settings(text=text_fields(source, kind), config=config)


VIDEOLLAMA2 = SourceSystem(
    name="videollama2",
    recipes=("videollama2-7b", "videollama2-7b-16f", "videollama2.1-7b-16f"),
    layouts=(SourceLayout("VideoLLaMA 2's own", "model.mm_projector.readout.0.weight", _templates, _drops),),
    settings=_settings,
)

__all__ = ["PROJECTORS", "VIDEOLLAMA2", "clip_connector"]
