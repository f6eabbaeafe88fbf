# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Rules and config of the low-res tower: any checkpoint of transformers' CLIP classes.

`CLIPModel` (with its text side), `CLIPVisionModel`, `CLIPVisionModelWithProjection` and `CLIPForImageClassification`;
files written by older transformers carry the prefix `vision_model.`, newer ones do not.
"""

from typing import Any

from transformers import CLIPConfig, CLIPVisionConfig, PreTrainedConfig

from .key_rules import Drop, Rename, Rule
from .part import Part

TARGET = "model.vision_tower.low_res_tower."


def low_res_config(part: Part) -> PreTrainedConfig:
    """Read the tower's config.

    Raises:
        ValueError: If the part is not of the CLIP family.
    """
    model_type = part.config.get("model_type")
    if model_type == "clip":
        return CLIPConfig.from_dict(dict(part.config)).vision_config
    if model_type == "clip_vision_model":
        return CLIPVisionConfig.from_dict(dict(part.config))
    raise ValueError(
        f"The low-res part {part.name} has model_type {model_type!r}; it must be 'clip' or 'clip_vision_model'."
    )


def low_res_rules(config: Any, *, num_layers: int) -> list[Rule]:
    """Rules for a tower of `config` of which the first `num_layers` layers are kept."""
    unused = "|".join(str(index) for index in range(num_layers, config.num_hidden_layers)) or "none"
    return [
        Drop(
            r"text_model\..+|text_projection\.weight|logit_scale|(text_model\.)?embeddings\.token_embedding\..+",
            "the text side of the CLIP pair is not used",
        ),
        Drop(r"visual_projection\.weight|classifier\..+", "the head behind the vision tower is not used"),
        Drop(r"(?:vision_model\.)?embeddings\.position_ids", "a constant that is computed, not stored"),
        Drop(r"(?:vision_model\.)?post_layernorm\..+", "it norms the pooled CLS token, which nothing reads"),
        Drop(
            rf"(?:vision_model\.)?encoder\.layers\.(?:{unused})\..+", "a layer behind the one that the connector reads"
        ),
        Rename(r"(?:vision_model\.)?((?:embeddings|pre_layrnorm|encoder\.layers\.\d+)\..+)", TARGET + r"\1"),
    ]
