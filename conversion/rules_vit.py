# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Rules and config of towers that encode views: checkpoints of transformers' classes, whole models or towers alone.

The towers keep transformers' names, so a rule only removes the prefix that a class adds. Older versions of
transformers may have written a prefix that newer versions omit.
"""

from collections.abc import Container
from dataclasses import dataclass

from transformers import CONFIG_MAPPING, PreTrainedConfig

from fila.modeling.tower_vit import has_final_norm

from .key_rules import Drop, Rule
from .pretrained_part import Part
from .shared_templates import CONSTANT, plain, unread

_TEXT = "the text side is not used"
_HEAD = "the head behind the vision tower is not used"
_MASK = "it stands for masked patches in pre-training"
_POOLED = "it pools the patches, which nothing reads"
_REST = "of the whole model the vision tower alone is used"
_PREFIX = ("class_embedding", "cls_token", "register_tokens")


@dataclass(frozen=True)
class VitLayout:
    """Names of the weights of one kind of tower in transformers' classes.

    Attributes:
        names: Templates of the tower's keys.
        layers: Prefix before the number of a layer.
        prefixes: Prefixes of the names, the whole model's first.
        norm: Name of the norm after the last layer, if the tower has it only when it keeps that layer.
        unused: Templates, after the prefix, of weights that the tower does not have, and the reason.
        beside: Templates of a whole model's other weights, and the reason for dropping them.
    """

    names: tuple[str, ...]
    layers: str
    prefixes: tuple[str, ...] = ("",)
    norm: str | None = None
    unused: tuple[tuple[str, str], ...] = ()
    beside: tuple[tuple[str, str], ...] = ()


_CLIP_PAIR = (
    ("text_model.{rest}", _TEXT),
    ("text_projection.weight", _TEXT),
    ("logit_scale", _TEXT),
    ("logit_bias", _TEXT),
    ("visual_projection.weight", _HEAD),
    ("classifier.{leaf}", _HEAD),
)
_SAME = ("embeddings.{rest}", "encoder.layer.{i}.{rest}", "layernorm.{leaf}")
_INTERNVL = ("language_model.{rest}", "multi_modal_projector.{rest}")

LAYOUTS = {
    "clip_vision_model": VitLayout(
        names=("embeddings.{rest}", "pre_layrnorm.{leaf}", "encoder.layers.{i}.{rest}"),
        layers="encoder.layers.",
        prefixes=("vision_model.", ""),
        unused=(
            ("embeddings.position_ids", CONSTANT),
            ("post_layernorm.{leaf}", "it norms the pooled CLS token, which nothing reads"),
        ),
        beside=_CLIP_PAIR,
    ),
    "siglip_vision_model": VitLayout(
        names=("embeddings.{rest}", "encoder.layers.{i}.{rest}", "post_layernorm.{leaf}"),
        layers="encoder.layers.",
        prefixes=("vision_model.", ""),
        norm="post_layernorm.{leaf}",
        unused=(("embeddings.position_ids", CONSTANT), ("head.{rest}", _POOLED)),
        beside=_CLIP_PAIR,
    ),
    **{
        name: VitLayout(
            names=_SAME,
            layers="encoder.layer.",
            prefixes=(f"{name}.", ""),
            norm="layernorm.{leaf}",
            unused=(("embeddings.mask_token", _MASK),),
            beside=(("classifier.{leaf}", _HEAD),),
        )
        for name in ("dinov2", "dinov2_with_registers")
    },
    "internvl_vision": VitLayout(
        names=_SAME,
        layers="encoder.layer.",
        prefixes=("model.vision_tower.", "vision_tower.", ""),
        norm="layernorm.{leaf}",
        unused=(("embeddings.mask_token", _MASK),),
        beside=(
            *((f"{base}{name}", _REST) for base in ("model.", "") for name in _INTERNVL),
            ("lm_head.weight", _REST),
        ),
    ),
    "sam_vision_model": VitLayout(
        names=("patch_embed.{rest}", "pos_embed", "layers.{i}.{rest}", "neck.{rest}"),
        layers="layers.",
        prefixes=("vision_encoder.",),
        beside=tuple(
            (f"{name}.{{rest}}", _REST) for name in ("shared_image_embedding", "prompt_encoder", "mask_decoder")
        ),
    ),
    "pix2struct_vision_model": VitLayout(
        names=("embeddings.{rest}", "encoder.layer.{i}.{rest}", "layernorm.{leaf}"),
        layers="encoder.layer.",
        prefixes=("encoder.", ""),
        beside=(("decoder.{rest}", _TEXT),),
    ),
}
# Whole models, whose config holds the tower's config as `vision_config`.
WHOLE = {
    "clip": "clip_vision_model",
    "internvl": "internvl_vision",
    "pix2struct": "pix2struct_vision_model",
    "sam": "sam_vision_model",
    "siglip": "siglip_vision_model",
}


def vit_types(towers: Container[str]) -> list[str]:
    """Return the model types of checkpoints that hold one of `towers`, given as keys of a table of towers."""
    known = [name for name in LAYOUTS if name in towers]
    return sorted(known + [name for name, tower in WHOLE.items() if tower in known])


def vit_config(part: Part) -> PreTrainedConfig:
    """Read the tower's config; the part's model type must be one of `vit_types`."""
    model_type = part.config["model_type"]
    config = CONFIG_MAPPING[model_type].from_dict(dict(part.config))
    tower: PreTrainedConfig = config.vision_config if model_type in WHOLE else config
    return tower


def vit_rules(config: PreTrainedConfig, target: str, *, num_layers: int) -> list[Rule]:
    """Return the rules for a tower.

    Args:
        config: Config of the tower.
        target: Prefix of the tower in the model, with its dot.
        num_layers: Number of layers to keep, counted from the input.
    """
    layout = LAYOUTS[config.model_type]
    rules: list[Rule] = [Drop(template, reason) for template, reason in layout.beside]
    for prefix in layout.prefixes:
        rules += [Drop(prefix + template, reason) for template, reason in layout.unused]
        rules += unread(prefix + layout.layers, num_layers, config.num_hidden_layers)
        if layout.norm is not None and not has_final_norm(config, num_layers):
            rules.append(Drop(prefix + layout.norm, "it norms the last layer, which is not read"))
        if (getattr(config, "tower_options", None) or {}).get("prefix") == "drop":
            rules += [Drop(f"{prefix}embeddings.{name}", "the tower drops it before it is read") for name in _PREFIX]
        rules += plain(prefix, target, *layout.names)
    return rules
