# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Rules and config of ConvNeXt v1 and v2 as the high-res tower, in transformers' or timm's names.

timm's names also come inside open_clip checkpoints (`visual.trunk.`). Three spellings of theirs are met:

- 1x1 convolutions in place of linear layers (`conv_mlp=True`): weights `(out, in, 1, 1)`;
- the layer scale called `gamma`, or `weight` in the copies of timm that LLaVA-HR and EAGLE carry;
- a global response norm of shape `(C,)`, which transformers keeps as `(1, 1, 1, C)`.

A timm config does not hold the sizes, so they are read from the weights.
"""

import re
from typing import Any

from transformers import ConvNextConfig, ConvNextV2Config, PreTrainedConfig

from fila.modeling.tower_convnext import NORM_EPS

from .key_rules import Drop, Rule
from .pretrained_part import Part
from .shared_templates import HIGH, as_conv, convnext, convnext_drops, plain

# Sizes by name, for towers that start from random weights. ConvNeXt (arXiv:2201.03545, table 9) and timm's smaller
# ones.
PRESETS: dict[str, dict[str, Any]] = {
    "convnext-atto": {"depths": [2, 2, 6, 2], "hidden_sizes": [40, 80, 160, 320]},
    "convnext-femto": {"depths": [2, 2, 6, 2], "hidden_sizes": [48, 96, 192, 384]},
    "convnext-pico": {"depths": [2, 2, 6, 2], "hidden_sizes": [64, 128, 256, 512]},
    "convnext-nano": {"depths": [2, 2, 8, 2], "hidden_sizes": [80, 160, 320, 640]},
    "convnext-tiny": {"depths": [3, 3, 9, 3], "hidden_sizes": [96, 192, 384, 768]},
    "convnext-small": {"depths": [3, 3, 27, 3], "hidden_sizes": [96, 192, 384, 768]},
    "convnext-base": {"depths": [3, 3, 27, 3], "hidden_sizes": [128, 256, 512, 1024]},
    "convnext-large": {"depths": [3, 3, 27, 3], "hidden_sizes": [192, 384, 768, 1536]},
}

_TIMM_PREFIX = r"(?:visual\.)?(?:trunk\.)?"
_STEM = re.compile(_TIMM_PREFIX + r"stem\.0\.weight")
_BLOCK = re.compile(_TIMM_PREFIX + r"stages\.(\d+)\.blocks\.(\d+)\.(.+)")
_UNREAD = "a stage that the fusion does not read"


def has_timm_names(part: Part) -> bool:
    """Return whether the part's weights have timm's names."""
    return any(_STEM.fullmatch(key) for key in part.tensors)


def is_convnext(part: Part) -> bool:
    """Return whether the part is a ConvNeXt, by timm's names or by its model type."""
    return has_timm_names(part) or part.config.get("model_type") in ("convnext", "convnextv2")


def convnext_config(part: Part) -> PreTrainedConfig:
    """Read the tower's config, or derive it from the weights if they carry timm's names.

    Raises:
        ValueError: If a block or the stem is not ConvNeXt's.
    """
    if has_timm_names(part):
        return _config_from_shapes(part)
    kind = ConvNextConfig if part.config["model_type"] == "convnext" else ConvNextV2Config
    return kind.from_dict(dict(part.config))


def preset_config(name: str) -> PreTrainedConfig:
    """Return the config of a named size.

    Raises:
        ValueError: If no size has that name.
    """
    if name not in PRESETS:
        raise ValueError(
            f"`high_res_init` must be a folder with a config.json or one of {sorted(PRESETS)}; got {name!r}."
        )
    return ConvNextConfig(**PRESETS[name])


def _config_from_shapes(part: Part) -> PreTrainedConfig:
    shapes = part.shapes
    blocks = {key: match.groups() for key in shapes if (match := _BLOCK.fullmatch(key))}
    num_stages = 1 + max(int(stage) for stage, _, _ in blocks.values())
    depths = [
        1 + max((int(block) for at, block, _ in blocks.values() if int(at) == stage), default=-1)
        for stage in range(num_stages)
    ]
    widths = {int(stage): shapes[key][0] for key, (stage, _, leaf) in blocks.items() if leaf == "conv_dw.weight"}
    leaves = {leaf for _, _, leaf in blocks.values()}
    stem = next(shapes[key] for key in shapes if _STEM.fullmatch(key))
    if sorted(widths) != list(range(num_stages)) or len(stem) != 4:
        raise ValueError(f"The high-res part {part.name} has a block or stem that is not ConvNeXt's.")
    sizes: dict[str, Any] = {
        "num_channels": stem[1],
        "patch_size": stem[2],
        "num_stages": num_stages,
        "depths": depths,
        "hidden_sizes": [widths[stage] for stage in range(num_stages)],
    }
    if (eps := _norm_eps(part)) != NORM_EPS:
        sizes["tower_options"] = {"norm_eps": eps}
    if "mlp.grn.weight" in leaves:
        return ConvNextV2Config(**sizes)
    return ConvNextConfig(**sizes, layer_scale_init_value=1e-6 if leaves & {"gamma", "weight"} else 0.0)


def _norm_eps(part: Part) -> float:
    """Return the epsilon of the norms: 1e-5 for timm's ConvNeXt-XXL, 1e-6 for all others."""
    model_args = part.config.get("model_args") or {}
    vision = (part.config.get("model_cfg") or {}).get("vision_cfg") or {}
    architecture = str(part.config.get("architecture") or vision.get("timm_model_name") or "")
    return float(model_args.get("norm_eps", 1e-5 if architecture.startswith("convnext_xxlarge") else NORM_EPS))


def convnext_rules(part: Part, config: PreTrainedConfig, *, num_stages: int) -> list[Rule]:
    """Return the rules for a tower of `config` that keeps its first `num_stages` stages."""
    unread = range(num_stages, len(config.depths))
    return _timm_rules(part, unread) if has_timm_names(part) else _transformers_rules(unread)


def _transformers_rules(unread: range) -> list[Rule]:
    rules: list[Rule] = [
        Drop("hidden_states_norms.{rest}", "it norms the outputs of a backbone for detectors"),
        Drop("classifier.{leaf}", "the classification head is not used"),
    ]
    for prefix in ("convnext.", "convnextv2.", ""):
        rules += [Drop(f"{prefix}encoder.stages.{stage}.{{rest}}", _UNREAD) for stage in unread]
        rules.append(Drop(f"{prefix}layernorm.{{leaf}}", "it norms the pooled features, which nothing reads"))
        rules += plain(prefix, HIGH, "embeddings.{rest}", "encoder.{rest}")
    return rules


# Other tensors of an open_clip checkpoint.
_OPEN_CLIP = (
    "text.{rest}",
    "transformer.{rest}",
    "token_embedding.{rest}",
    "ln_final.{rest}",
    "positional_embedding",
    "text_projection",
    "logit_scale",
    "logit_bias",
    "attn_mask",
)


def _timm_rules(part: Part, unread: range) -> list[Rule]:
    prefix = next(key for key in part.tensors if _STEM.fullmatch(key)).removesuffix("stem.0.weight")
    conv_mlp = any(key.endswith(".mlp.fc1.weight") and len(shape) == 4 for key, shape in part.shapes.items())
    scale = "gamma" if any(key.endswith(".gamma") for key in part.tensors) else "weight"
    return [
        *(Drop(f"{prefix}stages.{stage}.{{rest}}", _UNREAD) for stage in unread),
        *convnext_drops(prefix),
        Drop("visual.head.{rest}", "the head behind the tower is not used"),
        *(Drop(name, "the text side of the CLIP pair is not used") for name in _OPEN_CLIP),
        *convnext(prefix, stem="stem", stages="stages", scale=scale, back=as_conv if conv_mlp else None),
    ]
