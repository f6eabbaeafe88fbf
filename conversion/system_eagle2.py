# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Checkpoints of Eagle2: 9B with SigLIP and a ConvNeXt, 1B and 2B with SigLIP alone.

Key names: the remote code of nvidia/Eagle2-9B, which was read and not run; no index of the release could be read. The
layer scale of its ConvNeXt may be called `gamma` (timm) or `weight` (EAGLE's copy of it); both are layouts here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fila.modeling.configuration_fila import FilaConfig

from .key_rules import Drop, KeyTemplate
from .shared_templates import (
    LOW,
    convnext,
    convnext_drops,
    llama,
    llama_drops,
    plain,
    shuffle_projector,
)
from .source_system import Settings, SourceLayout, SourceSystem, sub_config

_TOWERS = "vision_model.vision_model.vision_towers."
_SIGLIP, _CONVNEXT = f"{_TOWERS}0.vision_tower.vision_model.", f"{_TOWERS}1.vision_tower."
_ALONE = "vision_model.vision_model."
_KINDS = ("seq_concat", "feat_concat", "all_tiling", "radio_448_siglip_448")
_UNREAD = "the pooling head behind the tower is not used"


def _siglip(prefix: str) -> list[KeyTemplate]:
    return plain(prefix, LOW, "embeddings.{rest}", "encoder.layers.{i}.{rest}", "post_layernorm.{leaf}")


def _both(scale: str) -> SourceLayout:
    def templates(config: FilaConfig) -> Sequence[KeyTemplate]:
        towers = _siglip(_SIGLIP) + convnext(_CONVNEXT, stem="stem", stages="stages", scale=scale)
        return [*towers, *shuffle_projector("mlp1."), *llama("language_model.")]

    return SourceLayout(
        f"Eagle2-9B's own, layer scale `{scale}`",
        f"{_CONVNEXT}stages.0.blocks.0.{scale}",
        templates,
        lambda config: [
            Drop(f"{_SIGLIP}head.{{rest}}", _UNREAD),
            *convnext_drops(_CONVNEXT),
            *llama_drops("language_model."),
        ],
    )


_SMALL = SourceLayout(
    "Eagle2-1B and 2B's own",
    f"{_ALONE}embeddings.patch_embedding.weight",
    lambda config: [*_siglip(_ALONE), *shuffle_projector("mlp1."), *llama("language_model.")],
    lambda config: [Drop(f"{_ALONE}head.{{rest}}", _UNREAD), *llama_drops("language_model.")],
)


def eagle2_settings(source: Mapping[str, Any]) -> Settings:
    """Return the settings in Eagle2's config.

    Raises:
        ValueError: If it is another model of the family, or says what this import does not support.
    """
    if "eagle_2_5" in str(source.get("model_type", "")).lower():
        raise ValueError(f"Eagle 2.5 ({source['model_type']!r}) is another model than Eagle2; it cannot be imported.")
    vision = dict(source.get("vision_config") or {})
    kind = source.get("moe_version_type", vision.get("moe_version_type"))
    if kind in _KINDS:
        raise ValueError(f"`moe_version_type` {kind!r} of Eagle2 cannot be imported: it joins the towers otherwise.")
    for name in ("select_layer", "vision_select_layer"):
        if source.get(name, -1) != -1:
            raise ValueError(f"`{name}` of Eagle2 must be -1, the last layer; got {source[name]}.")
    factor = round(1 / source.get("downsample_ratio", 0.5))
    canvas = {"type": "internvl", "score": "eagle2", "max_tiles": source.get("max_dynamic_patch", 12)}
    canvas |= {"min_tiles": source.get("min_dynamic_patch", 1), "thumbnail": source.get("use_thumbnail", True)}
    config: dict[str, Any] = {}
    if "force_image_size" in source:
        config["tile_size"] = source["force_image_size"]
    if factor != 2:
        config["fusion"] = {"type": "channel_concat", "align": "corners", "shuffle": [factor, 1]}
    text = sub_config(source.get("llm_config"), "qwen2")
    if text is not None and "tie_word_embeddings" in (source.get("llm_config") or {}):
        config["tie_word_embeddings"] = bool(source["llm_config"]["tie_word_embeddings"])
    return Settings(text=text, config=config, image_processor={"canvas": canvas})


def small_settings(source: Mapping[str, Any]) -> Settings:
    """Return the settings in the config of Eagle2-1B and 2B, whose `vision_config` is SigLIP's."""
    found = eagle2_settings(source)
    factor = round(1 / source.get("downsample_ratio", 0.5))
    config = {**found.config, "connector": {"type": "pixel_shuffle", "factor": factor}}
    config.pop("fusion", None)
    low_res = sub_config(source.get("vision_config"), "siglip_vision_model")
    if low_res is not None:
        low_res["tower_options"] = {"input_size": low_res.get("image_size", 448)}
    return Settings(low_res=low_res, text=found.text, config=config, image_processor=found.image_processor)


EAGLE2 = SourceSystem(
    name="eagle2", recipes=("eagle2",), layouts=(_both("gamma"), _both("weight")), settings=eagle2_settings
)
EAGLE2_SMALL = SourceSystem(
    name="eagle2-small",
    recipes=("eagle2-2b",),
    layouts=(_SMALL,),
    settings=small_settings,
    refused={f"{_TOWERS}{{rest}}": "Eagle2-9B has two towers; name the system 'eagle2'"},
)
