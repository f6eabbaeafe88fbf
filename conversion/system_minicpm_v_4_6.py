# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Checkpoints of MiniCPM-V 4.6 in its own layout, which is that of transformers' `minicpmv4_6`.

Keys: transformers 5.23, `models/minicpmv4_6`, which renames none.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import CONFIG_MAPPING, MODEL_MAPPING, AutoConfig

from fila.modeling.configuration_fila import FilaConfig

from .key_rules import Drop, KeyTemplate, Pair
from .shared_templates import CONNECTOR, CONSTANT, LOW, TEXT, plain
from .source_system import Settings, SourceLayout, SourceSystem, sub_config

_TOWER = "model.vision_tower."
_MODES = {"16x": 2, "4x": 1}  # patches per side that the tower joins


def _templates(config: FilaConfig) -> Sequence[KeyTemplate]:
    tower = ("embeddings.{rest}", "encoder.layers.{i}.{rest}", "post_layernorm.{leaf}", "vit_merger.{rest}")
    return [
        *plain(_TOWER, LOW, *tower),
        *plain("model.merger.", CONNECTOR, "mlp.{i}.{rest}"),
        Pair("model.language_model.{rest}", f"{TEXT}{{rest}}"),
        Pair("lm_head.weight", "lm_head.weight"),
    ]


def _drops(config: FilaConfig) -> Sequence[Drop]:
    drops = [Drop(f"{_TOWER}embeddings.position_ids", CONSTANT)]
    if (config.vision_config.tower_options or {}).get("merge_after") is None:
        drops.append(Drop(f"{_TOWER}vit_merger.{{rest}}", "the mode 4x does not run the merger inside the tower"))
    return drops


def settings_of(source: Mapping[str, Any]) -> Settings:
    """Return the settings in MiniCPM-V 4.6's config.

    Raises:
        ValueError: If the config asks for what the model's code does not compute, or for a language model that
            transformers does not have.
    """
    mode, times = source.get("downsample_mode", "16x"), source.get("merger_times", 1)
    if mode not in _MODES:
        raise ValueError(f"`downsample_mode` of MiniCPM-V 4.6 must be one of {sorted(_MODES)}; got {mode!r}.")
    if source.get("drop_vision_last_layer"):
        raise ValueError(
            "`drop_vision_last_layer` of MiniCPM-V 4.6 is true, but its code in transformers runs all layers anyway, "
            "so what was meant is not known. Set it to false in config.json."
        )
    low_res, vision = None, source.get("vision_config")
    insert = source.get("insert_layer_id", 6)  # the code overwrites that of the section
    for section, name in ((source, "merge_kernel_size"), (vision or {}, "window_kernel_size")):
        if list(size := section.get(name, [2, 2])) != [2, 2]:
            raise ValueError(f"`{name}` of MiniCPM-V 4.6 must be [2, 2]; got {size}. Its code joins four features.")
    merge_after = insert + 1 if mode == "16x" else None
    if vision is not None:
        depth = vision.get("num_hidden_layers", 12)
        if mode == "16x" and not 0 <= insert < depth:
            raise ValueError(
                f"`insert_layer_id` of MiniCPM-V 4.6 counts its layers from 0, and must be in 0..{depth - 1} in mode "
                f"16x; got {insert}. Its code has no grid for a tower without the merger there."
            )
        own = {key: value for key, value in vision.items() if key != "model_type"}
        low_res = {**(sub_config(own, "siglip_vision_model") or {}), "tower_options": {"merge_after": merge_after}}
    canvas: dict[str, Any] = {"type": "minicpm", "multiple": _MODES[mode] * 2**times}
    if vision is not None:
        canvas["patch_size"] = vision.get("patch_size", 16)
    return Settings(
        low_res=low_res,
        text=_language_model(source.get("text_config")),
        config={
            "connector": {"type": "merger", "times": times},
            "tie_word_embeddings": source.get("tie_word_embeddings", False),
            "tile_size": source.get("image_size", 448),
        },
        image_processor={"canvas": canvas},
    )


def _language_model(section: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the language model's settings; refuse one that `AutoModel` cannot build."""
    if section is None:
        return None
    name = section.get("model_type", "qwen3_5_text")
    if name not in CONFIG_MAPPING or type(AutoConfig.for_model(name)) not in MODEL_MAPPING:
        raise ValueError(
            f"The language model of this MiniCPM-V 4.6 is {name!r}, which `AutoModel` of this transformers cannot "
            "build. Install a transformers that has it."
        )
    return sub_config(section, name)


MINICPM_V_4_6 = SourceSystem(
    name="minicpm-v-4.6",
    recipes=("minicpm-v-4.6",),
    layouts=(SourceLayout("its own and transformers'", "model.merger.mlp.0.linear_1.weight", _templates, _drops),),
    settings=settings_of,
)
