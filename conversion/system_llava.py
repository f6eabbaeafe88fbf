# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Checkpoints of LLaVA's family in their own layouts: LLaVA-NeXT, LLaVA-HR, Mini-Gemini, EAGLE, LLaVA-UHD v1.

Their config.json is the language model's, with LLaVA's settings added. Key lists: LLaVA-HR @ 1212ffb, MGM
@ 769820c, EAGLE @ fef95f1, LLaVA-UHD branch v1 @ dd7f6cc; LLaVA-NeXT also as transformers keeps it.
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
    clip,
    clip_drops,
    convnext,
    convnext_drops,
    extra,
    llama,
    llama_drops,
    llava_projector,
    plain,
)
from .source_system import Settings, SourceLayout, SourceSystem, sub_config, text_fields

_CLIP = "model.vision_tower.vision_tower.vision_model."
_HR = "model.vision_tower."


def llava_settings(source: Mapping[str, Any]) -> Settings:
    """Return the language model's settings from LLaVA's own config."""
    return Settings(text=text_fields(source, "llama"))


# LLaVA-NeXT


def next_settings(source: Mapping[str, Any]) -> Settings:
    """Return the settings of LLaVA-NeXT in transformers: sections for both parts, and the possible canvases."""
    if "text_config" not in source:
        return llava_settings(source)
    low_res = sub_config(source.get("vision_config"), "clip_vision_model") or {}
    side = low_res.get("image_size", 336)
    canvas: dict[str, Any] = {"type": "llava_next"}
    if pinpoints := source.get("image_grid_pinpoints"):
        canvas["tile_grids"] = [[height // side, width // side] for height, width in pinpoints]
    changes: dict[str, Any] = {"vision_feature_layer": source.get("vision_feature_layer", -2)}
    changes["tie_word_embeddings"] = source.get("tie_word_embeddings", False)
    act = source.get("projector_hidden_act", "gelu")
    changes["connector"] = {"type": "mlp", "hidden_act": act, "bias": source.get("multimodal_projector_bias", True)}
    return Settings(
        low_res=low_res,
        text=sub_config(source["text_config"], "llama"),
        config=changes,
        image_processor={"canvas": canvas},
    )


def _in_tree(base: str, tower: str, text: str, head: str) -> Callable[[FilaConfig], Sequence[KeyTemplate]]:
    def templates(config: FilaConfig) -> Sequence[KeyTemplate]:
        return [
            *clip(f"{base}{tower}"),
            *plain(f"{base}multi_modal_projector.", CONNECTOR, "linear_1.{leaf}", "linear_2.{leaf}"),
            Pair(f"{base}image_newline", "model.image_newline"),
            Pair(f"{text}{{rest}}", f"{TEXT}{{rest}}"),
            Pair(head, "lm_head.weight"),
        ]

    return templates


def _in_tree_drops(prefix: str) -> Callable[[FilaConfig], Sequence[Drop]]:
    return lambda config: [*clip_drops(prefix, config), Drop("{rest}.rotary_emb.inv_freq", CONSTANT)]


def _in_tree_layouts() -> list[SourceLayout]:
    """Return the layouts that transformers has written, with or without `model.` and CLIP's `vision_model.`."""
    outer = (
        ("", "language_model.model.", "language_model.lm_head.weight"),
        ("model.", "model.language_model.", "lm_head.weight"),
    )
    return [
        SourceLayout(
            f"transformers' names, {base or 'language_model.model.'}* and {base}{tower}*",
            f"{base}{tower}embeddings.class_embedding",
            _in_tree(base, tower, text, head),
            _in_tree_drops(base + tower),
        )
        for base, text, head in outer
        for tower in ("vision_tower.vision_model.", "vision_tower.")
    ]


LLAVA_NEXT = SourceSystem(
    name="llava-next",
    recipes=("llava-next",),
    layouts=(
        *_in_tree_layouts(),
        SourceLayout(
            "LLaVA's own",
            "model.image_newline",
            lambda config: [
                *clip(_CLIP),
                *llava_projector(),
                Pair("model.image_newline", "model.image_newline"),
                *llama(),
            ],
            lambda config: [*clip_drops(_CLIP, config), *llama_drops()],
        ),
    ),
    settings=next_settings,
)


# LLaVA-HR


def _llava_hr(config: FilaConfig) -> Sequence[KeyTemplate]:
    adapter, layer = f"{_HR}align_stages_latent.{{i}}.", f"{FUSION}layers.{{i}}."
    names = {"slow_conv": "high_conv", "slow_proj": "high_proj", "fast_conv": "low_conv", "fast_proj": "low_proj"}
    return [
        *clip(f"{_HR}fast_vision_tower.vision_tower.vision_model."),
        *convnext(f"{_HR}slow_vision_tower.vision_tower.", stem="stem", stages="stages", scale="weight"),
        *[Pair(f"{adapter}{theirs}.{{leaf}}", f"{layer}{ours}.{{leaf}}") for theirs, ours in names.items()],
        Pair(f"{adapter}gate.{{j}}.{{leaf}}", f"{layer}gate.{{j}}.{{leaf}}"),
        Pair(f"{_HR}align_stages.0.fast_proj.{{leaf}}", f"{FUSION}final.low_proj.{{leaf}}"),
        Pair(f"{_HR}align_stages.0.slow_proj.{{leaf}}", f"{FUSION}final.high_proj.{{leaf}}"),
        *llava_projector(),
        *llama(),
    ]


LLAVA_HR = SourceSystem(
    name="llava-hr",
    recipes=("llava-hr", "llava-hr-x-13b"),
    layouts=(
        SourceLayout(
            "LLaVA-HR's own",
            f"{_HR}slow_vision_tower.vision_tower.stem.0.weight",
            _llava_hr,
            lambda config: [
                *clip_drops(f"{_HR}fast_vision_tower.vision_tower.vision_model.", config, has_cls=False),
                *convnext_drops(f"{_HR}slow_vision_tower.vision_tower."),
                *llama_drops(),
            ],
        ),
    ),
    settings=llava_settings,
)


# Mini-Gemini

_AUX = "model.vision_tower_aux."


def _mini_gemini(config: FilaConfig) -> Sequence[KeyTemplate]:
    pairs: list[KeyTemplate] = []
    for theirs, ours in (("query", "query"), ("aux", "key"), ("val", "value")):
        pairs.append(Pair(f"model.vlm_uni_{theirs}_projector.{{i}}.{{leaf}}", f"{FUSION}mining.{ours}.{{i}}.{{leaf}}"))
    towers = clip(_CLIP) + convnext(_AUX, stem="vision_stem", stages="vision_stages", scale="gamma")
    return [*towers, *pairs, *llava_projector(), *llama()]


MINI_GEMINI = SourceSystem(
    name="mini-gemini",
    recipes=("mini-gemini", "mini-gemini-hd"),
    layouts=(
        SourceLayout(
            "MGM's own",
            "model.vlm_uni_query_projector.0.weight",
            _mini_gemini,
            lambda config: [*clip_drops(_CLIP, config), *llama_drops()],
        ),
    ),
    settings=lambda source: Settings(
        text=text_fields(source, "llama"),
        config={"high_res_overview": "interpolate"} if source.get("image_global") else {},
        image_processor=mgm_canvas(source),
    ),
)


def mgm_canvas(source: Mapping[str, Any]) -> dict[str, Any]:
    """Return the canvas of `image_grid` and `image_global`; Mini-Gemini and its HD version share their weights."""
    if "image_grid" not in source:
        return {}
    return {
        "canvas": {
            "type": "square_pad",
            "grid": source["image_grid"],
            "overview": bool(source.get("image_global", False)),
        }
    }


# EAGLE

_TOWERS = "model.vision_tower.vision_towers."
_ROPES = ("rope_win", "rope_glb", "blocks.{i}.attn.rope")


def eagle_order(config: FilaConfig) -> list[tuple[str, str]]:
    """Return kind and place of each tower, in the order of EAGLE's numbered list."""
    places = [(config.vision_config, LOW), (config.high_res_vision_config, HIGH)]
    places += [(tower, extra(number)) for number, tower in enumerate(config.extra_vision_configs)]
    return [(tower.model_type, place) for tower, place in places]


def _eagle(config: FilaConfig) -> Sequence[KeyTemplate]:
    templates: list[KeyTemplate] = []
    for number, (kind, place) in enumerate(eagle_order(config)):
        prefix = f"{_TOWERS}{number}.vision_tower."
        if kind == "clip_vision_model":
            templates += clip(f"{prefix}vision_model.", place)
        elif kind == "convnext":
            templates += convnext(prefix, place, stem="stem", stages="stages", scale="weight")
        else:
            templates.append(Pair(f"{prefix}{{rest}}", f"{place}{{rest}}"))
    return [*templates, *llava_projector(), *llama()]


def _eagle_drops(config: FilaConfig) -> Sequence[Drop]:
    drops: list[Drop] = []
    for number, (kind, _) in enumerate(eagle_order(config)):
        prefix = f"{_TOWERS}{number}.vision_tower."
        if kind == "clip_vision_model":
            drops += clip_drops(f"{prefix}vision_model.", config, has_cls=False)
        elif kind == "convnext":
            drops += convnext_drops(prefix)
        elif kind == "eva02":
            drops += [Drop(f"{prefix}{rope}.freqs_{{rest}}", CONSTANT) for rope in _ROPES]
    return [*drops, *llama_drops()]


EAGLE = SourceSystem(
    name="eagle",
    recipes=("eagle-x5", "eagle-x4"),
    layouts=(SourceLayout("EAGLE's own", f"{_TOWERS}1.vision_tower.stem.0.weight", _eagle, _eagle_drops),),
    settings=llava_settings,
)


# LLaVA-UHD v1

_RESAMPLER = ("pos_embed", "query", "proj", "kv_proj.weight", "attn.{rest}", "ln_q.{leaf}", "ln_kv.{leaf}")

LLAVA_UHD = SourceSystem(
    name="llava-uhd",
    recipes=("llava-uhd",),
    layouts=(
        SourceLayout(
            "branch LLaVA-UHD-v1",
            "model.mm_projector.pos_embed",
            lambda config: [
                *clip(_CLIP),
                *plain("model.mm_projector.", CONNECTOR, *_RESAMPLER, "ln_post.{leaf}"),
                *llama(),
            ],
            lambda config: [*clip_drops(_CLIP, config), *llama_drops()],
        ),
    ),
    settings=llava_settings,
)
