# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Rules and config of towers that encode views: checkpoints of transformers' classes, whole models or towers alone.

The towers keep transformers' names, so a rule only takes off what a class puts before them. Files written by older
transformers may have a prefix that newer ones leave out.
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
    """How transformers' classes name the weights of a kind of tower.

    Attributes:
        names: Templates of the tower's keys.
        layers: What stands before the number of a layer.
        prefixes: What stands before the names, the one of the whole model first.
        norm: The norm behind the last layer, if the tower has it only where that layer is read.
        unused: Templates behind the prefix that the tower has not, and why.
        beside: Templates of what a whole model holds beside the tower, and why it stays behind.
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
# Whole models, whose config holds the tower's as `vision_config`.
WHOLE = {
    "clip": "clip_vision_model",
    "internvl": "internvl_vision",
    "pix2struct": "pix2struct_vision_model",
    "sam": "sam_vision_model",
    "siglip": "siglip_vision_model",
}


def vit_types(towers: Container[str]) -> list[str]:
    """The model types of checkpoints that hold one of `towers`, which are keys of a table of towers."""
    known = [name for name in LAYOUTS if name in towers]
    return sorted(known + [name for name, tower in WHOLE.items() if tower in known])


def vit_config(part: Part) -> PreTrainedConfig:
    """Read the tower's config; the part's model type is one of `vit_types`."""
    model_type = part.config["model_type"]
    config = CONFIG_MAPPING[model_type].from_dict(dict(part.config))
    tower: PreTrainedConfig = config.vision_config if model_type in WHOLE else config
    return tower


def vit_rules(config: PreTrainedConfig, target: str, *, num_layers: int) -> list[Rule]:
    """Rules for a tower.

    Args:
        config: The tower's.
        target: Its place in the model, with its dot.
        num_layers: Layers that are kept, counted from the input.
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
