# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Rules and config of the high-res tower: ConvNeXt v1 and v2, in transformers' or timm's names.

timm's names also come inside open_clip checkpoints (`visual.trunk.`). Three spellings of theirs are met:

- 1x1 convolutions in place of linear layers (`conv_mlp=True`): weights `(out, in, 1, 1)`;
- the layer scale called `gamma`, or `weight` in the copies of timm that LLaVA-HR and EAGLE carry;
- a global response norm of shape `(C,)`, which transformers keeps as `(1, 1, 1, C)`.

A timm config says little, so the sizes are read off the weights.
"""

import re
from typing import Any

import torch
from transformers import ConvNextConfig, ConvNextV2Config, PreTrainedConfig

from fila.modeling.tower_convnext import NORM_EPS

from .key_rules import Drop, Rename, Rule, Transform
from .part import Part

TARGET = "model.vision_tower.high_res_tower."

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
_HF_PREFIX = r"(?:convnext(?:v2)?\.)?"
_STEM = re.compile(_TIMM_PREFIX + r"stem\.0\.weight")
_BLOCK = re.compile(_TIMM_PREFIX + r"stages\.(\d+)\.blocks\.(\d+)\.(.+)")


def as_linear(weight: torch.Tensor) -> torch.Tensor:
    """The `(out, in)` weight of a linear layer, from `(out, in)` or from a 1x1 convolution's `(out, in, 1, 1)`."""
    return weight.reshape(weight.shape[0], -1)


def as_conv(weight: torch.Tensor) -> torch.Tensor:
    """The `(out, in, 1, 1)` weight of a 1x1 convolution, from `(out, in)`."""
    return weight.reshape(*weight.shape, 1, 1)


def identity(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor itself."""
    return tensor


def as_channels_last(vector: torch.Tensor) -> torch.Tensor:
    """`(C,)` as `(1, 1, 1, C)`."""
    return vector.reshape(1, 1, 1, -1)


def as_vector(tensor: torch.Tensor) -> torch.Tensor:
    """Any shape as `(C,)`."""
    return tensor.reshape(-1)


def has_timm_names(part: Part) -> bool:
    """Whether the part's weights carry timm's names."""
    return any(_STEM.fullmatch(key) for key in part.tensors)


def high_res_config(part: Part) -> PreTrainedConfig:
    """Read the tower's config, or derive it from the weights if they carry timm's names.

    Raises:
        ValueError: If the part is no ConvNeXt.
    """
    if has_timm_names(part):
        return _config_from_shapes(part)
    model_type = part.config.get("model_type")
    if model_type == "convnext":
        return ConvNextConfig.from_dict(dict(part.config))
    if model_type == "convnextv2":
        return ConvNextV2Config.from_dict(dict(part.config))
    raise ValueError(
        f"The high-res part {part.name} has model_type {model_type!r} and no weights in timm's names; it must be "
        "'convnext', 'convnextv2' or a timm ConvNeXt."
    )


def preset_config(name: str) -> PreTrainedConfig:
    """The config of a named size.

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
    """ConvNeXt-XXL of timm norms with 1e-5; its other ConvNeXts and those of transformers with 1e-6."""
    model_args = part.config.get("model_args") or {}
    vision = (part.config.get("model_cfg") or {}).get("vision_cfg") or {}
    architecture = str(part.config.get("architecture") or vision.get("timm_model_name") or "")
    return float(model_args.get("norm_eps", 1e-5 if architecture.startswith("convnext_xxlarge") else NORM_EPS))


def normalization(part: Part) -> dict[str, Any]:
    """The image mean and standard deviation that the part was trained with, as far as its files say."""
    values = part.read_json("preprocessor_config.json")
    if "image_mean" not in values:
        settings = part.config.get("pretrained_cfg") or part.config.get("preprocess_cfg") or {}
        values = {"image_mean": settings.get("mean"), "image_std": settings.get("std")}
    found = {key: values.get(key) for key in ("image_mean", "image_std")}
    return {key: list(value) for key, value in found.items() if isinstance(value, list)}


def high_res_rules(part: Part, config: Any, *, num_stages: int) -> list[Rule]:
    """Rules for a tower of `config` of which the first `num_stages` stages are kept."""
    unused = "|".join(str(index) for index in range(num_stages, len(config.depths))) or "none"
    return _timm_rules(part, unused) if has_timm_names(part) else _transformers_rules(unused)


def _transformers_rules(unused: str) -> list[Rule]:
    return [
        Drop(rf"{_HF_PREFIX}encoder\.stages\.(?:{unused})\..+", "a stage that the fusion does not read"),
        Drop(rf"{_HF_PREFIX}layernorm\..+", "it norms the pooled features, which nothing reads"),
        Drop(r"hidden_states_norms\..+", "it norms the outputs of a backbone for detectors"),
        Drop(r"classifier\..+", "the classification head is not used"),
        Rename(rf"{_HF_PREFIX}((?:embeddings|encoder)\..+)", TARGET + r"\1"),
    ]


def _timm_rules(part: Part, unused: str) -> list[Rule]:
    block = _TIMM_PREFIX + r"stages\.(\d+)\.blocks\.(\d+)\."
    layer = TARGET + r"encoder.stages.\1.layers.\2."
    conv_mlp = any(key.endswith(".mlp.fc1.weight") and len(shape) == 4 for key, shape in part.shapes.items())
    rules: list[Rule] = [
        Drop(rf"{_TIMM_PREFIX}stages\.(?:{unused})\..+", "a stage that the fusion does not read"),
        Drop(rf"{_TIMM_PREFIX}(?:head|norm|norm_pre)\..+", "the head behind the tower is not used"),
        Drop(
            r"(?:text|transformer|token_embedding|ln_final)\..+|positional_embedding|text_projection"
            r"|logit_scale|logit_bias|attn_mask",
            "the text side of the CLIP pair is not used",
        ),
        Rename(_TIMM_PREFIX + r"stem\.0\.(weight|bias)", TARGET + r"embeddings.patch_embeddings.\1"),
        Rename(_TIMM_PREFIX + r"stem\.1\.(weight|bias)", TARGET + r"embeddings.layernorm.\1"),
        Rename(
            _TIMM_PREFIX + r"stages\.(\d+)\.downsample\.([01])\.(weight|bias)",
            TARGET + r"encoder.stages.\1.downsampling_layer.\2.\3",
        ),
        Rename(block + r"conv_dw\.(weight|bias)", layer + r"dwconv.\3"),
        Rename(block + r"norm\.(weight|bias)", layer + r"layernorm.\3"),
        Rename(block + r"(?:gamma|weight)", layer + "layer_scale_parameter"),
        Transform(block + r"mlp\.grn\.(weight|bias)", layer + r"grn.\3", as_channels_last, as_vector),
    ]
    back = as_conv if conv_mlp else identity
    for timm_name, name in (("fc1", "pwconv1"), ("fc2", "pwconv2")):
        rules.append(Rename(block + rf"mlp\.{timm_name}\.bias", layer + f"{name}.bias"))
        rules.append(Transform(block + rf"mlp\.{timm_name}\.weight", layer + f"{name}.weight", as_linear, back))
    return rules
