# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Checkpoints of InternVL (OpenGVLab's and transformers'), LEO and MiniCPM-V 2.6 in their own layouts.

Key lists: OpenGVLab/InternVL @ 2410d1d, Mozhgan91/LEO @ d2787c6, the hub files of MiniCPM-V 2.6.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fila.modeling.configuration_fila import FilaConfig

from .key_rules import Drop, KeyTemplate, Pair
from .shared_templates import (
    CONNECTOR,
    CONSTANT,
    FUSION,
    HIGH,
    LOW,
    TEXT,
    intern_lm2,
    intern_vit,
    llama,
    llama_drops,
    plain,
    shuffle_projector,
)
from .source_system import Settings, SourceLayout, SourceSystem, sub_config, text_fields

Templates = Callable[[Any], Sequence[KeyTemplate]]


def by_language_model(name: str, vision: Templates) -> tuple[SourceLayout, ...]:
    """Return the layouts of a system that was released with InternLM2 and with LLaMA-like language models."""
    drops = [*llama_drops("language_model."), Drop("language_model.{rest}.rotary_emb.inv_freq", CONSTANT)]
    return (
        SourceLayout(
            f"{name} with InternLM2",
            "language_model.model.tok_embeddings.weight",
            lambda config: [*vision(config), *intern_lm2("language_model.", config.text_config)],
            lambda config: drops,
        ),
        SourceLayout(
            f"{name} with LLaMA or Qwen2",
            "language_model.model.embed_tokens.weight",
            lambda config: [*vision(config), *llama("language_model.")],
            lambda config: drops,
        ),
    )


def language_model(source: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the settings in `llm_config` of InternVL and LEO; LLaMA's classes compute InternLM2."""
    section = source.get("llm_config")
    if section is None:
        return None
    if section.get("model_type") not in (None, "internlm2"):
        return sub_config(section, "llama")
    scaling = section.get("rope_scaling")
    rope: dict[str, Any] = {"rope_type": "default"} if not scaling else {"rope_type": scaling["type"]}
    if scaling:
        rope["factor"] = scaling["factor"]
    rope["rope_theta"] = float(section.get("rope_theta", 10000))
    fields = text_fields(section, "llama") or {}
    return {**{key: value for key, value in fields.items() if not key.startswith("rope")}, "rope_parameters": rope}


# OpenGVLab's names of InternViT's settings, and transformers'.
_VIT = {"qkv_bias": "attention_bias", "qk_normalization": "use_qk_norm"}
_VIT_SAME = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "image_size",
    "patch_size",
    "hidden_act",
    "layer_norm_eps",
    "norm_type",
)


def intern_vit_config(section: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return OpenGVLab's `vision_config` in transformers' names."""
    if section is None:
        return None
    values = {name: section[name] for name in _VIT_SAME if name in section}
    values |= {ours: section[theirs] for theirs, ours in _VIT.items() if theirs in section}
    return sub_config({"attention_bias": True, **values}, "internvl_vision")


# Changes to the recipe's prompt format, by the format's name in InternVL's config.
_INTERNVL_PROMPTS: dict[str, dict[str, str]] = {
    "internlm2-chat": {},
    "Hermes-2": {},
    "internvl2_5": {
        "system_message": "你是书生·万象，英文名是InternVL，"  # noqa: RUF001
        "是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。",
        "turn_end": "<|im_end|>\n",
    },
}


def internvl_prompt(source: Mapping[str, Any]) -> dict[str, str]:
    """Return the changes to the recipe's prompt format.

    Raises:
        ValueError: If the config names a format that InternVL 2 and 2.5 do not use with these language models.
    """
    name = source.get("template") or "internlm2-chat"
    if name not in _INTERNVL_PROMPTS:
        raise ValueError(f"`template` in InternVL's config must be one of {sorted(_INTERNVL_PROMPTS)}; got {name!r}.")
    return _INTERNVL_PROMPTS[name]


def internvl_settings(source: Mapping[str, Any]) -> Settings:
    """Return the settings in InternVL's config, OpenGVLab's or transformers'."""
    factor = round(1 / source.get("downsample_ratio", 0.5))
    connector = {"type": "pixel_shuffle", "factor": factor, "order": source.get("ps_version", "v2")}
    if "text_config" in source:
        text = sub_config(source["text_config"], "qwen2")
        connector["hidden_act"] = source.get("projector_hidden_act", "gelu")
        changes: dict[str, Any] = {
            "connector": connector,
            "tie_word_embeddings": source.get("tie_word_embeddings", True),
        }
        changes["vision_feature_layer"] = source.get("vision_feature_layer", -1)
        return Settings(low_res=sub_config(source["vision_config"], "internvl_vision"), text=text, config=changes)
    canvas = {"type": "internvl", "max_tiles": source.get("max_dynamic_patch", 12)}
    canvas |= {"min_tiles": source.get("min_dynamic_patch", 1), "thumbnail": source.get("use_thumbnail", True)}
    return Settings(
        low_res=intern_vit_config(source.get("vision_config")),
        text=language_model(source),
        config={"connector": connector, "vision_feature_layer": source.get("select_layer", -1)},
        image_processor={"canvas": canvas},
        prompt=internvl_prompt(source),
    )


def _in_tree(base: str, text: str, head: str) -> Templates:
    return lambda config: [
        Pair(f"{base}vision_tower.{{rest}}", f"{LOW}{{rest}}"),
        *plain(f"{base}multi_modal_projector.", CONNECTOR, "linear_1.{leaf}", "linear_2.{leaf}"),
        Pair(f"{base}multi_modal_projector.layer_norm.{{leaf}}", f"{CONNECTOR}norm.{{leaf}}"),
        Pair(f"{text}{{rest}}", f"{TEXT}{{rest}}"),
        Pair(head, "lm_head.weight"),
    ]


INTERNVL = SourceSystem(
    name="internvl",
    recipes=("internvl2",),
    layouts=(
        SourceLayout(
            "transformers' checkpoints on the Hub",
            "multi_modal_projector.layer_norm.weight",
            _in_tree("", "language_model.model.", "language_model.lm_head.weight"),
        ),
        SourceLayout(
            "transformers' names since 4.52",
            "model.multi_modal_projector.layer_norm.weight",
            _in_tree("model.", "model.language_model.", "lm_head.weight"),
        ),
        *by_language_model(
            "OpenGVLab's own", lambda config: [*intern_vit("vision_model."), *shuffle_projector("mlp1.")]
        ),
    ),
    settings=internvl_settings,
)


# LEO


def _leo_vision(config: FilaConfig) -> Sequence[KeyTemplate]:
    return [
        *intern_vit("vision_model_1."),
        Pair("vision_model_2.{rest}", f"{HIGH}{{rest}}"),
        *shuffle_projector("mlp1.", f"{FUSION}connectors.0."),
        *shuffle_projector("mlp2.", f"{FUSION}connectors.1."),
    ]


def leo_settings(source: Mapping[str, Any]) -> Settings:
    """Return the settings in LEO's config, which is InternVL's; the second tower is always SAM-L."""
    section = source.get("vision_config") or source.get("vision_config_1")
    canvas = {"type": "internvl", "max_tiles": source.get("max_dynamic_patch", 6)}
    return Settings(
        low_res=intern_vit_config(section), text=language_model(source), image_processor={"canvas": canvas}
    )


LEO = SourceSystem(
    name="leo", recipes=("leo",), layouts=by_language_model("LEO's own", _leo_vision), settings=leo_settings
)


# MiniCPM-V 2.6

_RESAMPLER = ("query", "proj", "kv_proj.weight", "attn.{rest}", "ln_q.{leaf}", "ln_kv.{leaf}", "ln_post.{leaf}")


def minicpm_settings(source: Mapping[str, Any]) -> Settings:
    """Return the settings in MiniCPM-V's config: Qwen2's settings and a section for the tower."""
    slices = (source.get("slice_config") or {}).get("max_slice_nums", 9)
    changes: dict[str, Any] = {}
    if "query_num" in source:
        changes["connector"] = {"type": "resampler", "num_queries": source["query_num"]}
    return Settings(
        text=text_fields(source, "qwen2"),
        config=changes,
        image_processor={"canvas": {"type": "minicpm", "max_slices": slices}},
    )


MINICPM_V = SourceSystem(
    name="minicpm-v-2.6",
    recipes=("minicpm-v-2.6",),
    layouts=(
        SourceLayout(
            "the hub files' own",
            "llm.model.embed_tokens.weight",
            lambda config: [
                *plain("vpm.", LOW, "embeddings.{rest}", "encoder.layers.{i}.{rest}", "post_layernorm.{leaf}"),
                *plain("resampler.", CONNECTOR, *_RESAMPLER),
                *llama("llm."),
            ],
            lambda config: [Drop("resampler.pos_embed", CONSTANT), *llama_drops("llm.")],
        ),
    ),
    settings=minicpm_settings,
)
