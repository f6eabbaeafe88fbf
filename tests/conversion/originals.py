# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Tiny random checkpoints in the original systems' layouts, made by reading the key templates backwards."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from fila import FilaConfig, FilaForConditionalGeneration
from fila.conversion.key_rules import export_plan
from fila.conversion.shared_templates import TEXT as LANGUAGE_MODEL
from fila.conversion.system_granite import granite4_settings
from fila.conversion.systems import SYSTEMS
from fila.systems.recipes import load_recipe
from tests.conversion.parts import CLIP_SIZES, CONVNEXT_SIZES, LLAMA_SIZES, byte_tokenizer, write_text
from tests.helpers import randomise

CLIP = {key: value for key, value in CLIP_SIZES.items() if key != "projection_dim"}
VIT = {
    "hidden_size": 20,
    "intermediate_size": 37,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": [28, 28],
    "patch_size": [7, 7],
}
SIGLIP = VIT | {"image_size": 42, "patch_size": 7}
SAM = {
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 64,
    "patch_size": 8,
    "window_size": 3,
    "global_attn_indexes": [1],
    "output_channels": 6,
    "mlp_dim": 17,
    "num_pos_feats": 3,
}
EVA = {
    "model_type": "eva02",
    "hidden_size": 16,
    "intermediate_size": 19,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 64,
    "patch_size": 8,
    "pretrain_image_size": 32,
    "window_size": 4,
    "global_attn_indexes": [1],
    "rope_grid": 4,
    "tower_options": {"input_size": 64},
}
PIX2STRUCT = {
    "model_type": "pix2struct_vision_model",
    "hidden_size": 14,
    "patch_embed_hidden_size": 192,
    "d_ff": 23,
    "d_kv": 7,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "seq_len": 100,
    "tower_options": {"patch_size": 8, "input_size": 40},
}
# of its layers, one of each kind
QWEN3_5 = {
    "head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 4,
    "linear_value_head_dim": 6,
    "layer_types": ["linear_attention", "full_attention"],
}
EVA2_CLIP = {**VIT, "image_size": 28, "patch_size": 7}
TEXT = LLAMA_SIZES


GRANITE_SIGLIP = VIT | {"image_size": 28, "patch_size": 7}
GRANITE = {
    "downsample_rate": "1/2",
    "deepstack_layer_map": [[-3, 0], [1, 2]],
    "spatial_target_layers": [1, 3, 4, 5],
    "qformer_config": {"intermediate_size": 17},
    "vision_feature_select_strategy": "full",
}


def projected(source: dict[str, Any]) -> dict[str, Any]:
    """Settings of `FilaConfig` that follow from a Granite 4 Vision's config."""
    settings = granite4_settings(source | {"vision_config": GRANITE_SIGLIP | {"model_type": "siglip_vision_model"}})
    return {key: settings.config[key] for key in ("connector", "injection", "vision_feature_layer")}


@dataclass(frozen=True)
class Original:
    """A tiny checkpoint of a system.

    Attributes:
        system: Name in `SYSTEMS`.
        layout: Index among its layouts.
        recipe: Whose tiny version it is.
        low_res, high_res, config, images: Sizes that neither recipe nor source states, as an import takes them.
        source: Further entries of the original's config.json.
        extra: Keys to shapes of what is left behind.
        text_in: Name of the language model's section in config.json; None where it is the config itself.
        text: Sizes of the language model that LLaMA's do not include.
    """

    system: str
    layout: int
    recipe: str
    low_res: dict[str, Any] | None = None
    high_res: dict[str, Any] | None = None
    config: dict[str, Any] = field(default_factory=dict)
    images: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, tuple[int, ...]] = field(default_factory=dict)
    text_in: str | None = None
    model_type: str = "llama"
    text: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """Keyword arguments of `import_checkpoint`."""
        return {
            "system": self.system,
            "recipe": self.recipe,
            "low_res": self.low_res,
            "high_res": self.high_res,
            "config": self.config,
            "image_processor": self.images,
        }


_CLIP = "model.vision_tower.vision_tower.vision_model."
_HR = "model.vision_tower."
_EAGLE = "model.vision_tower.vision_towers."
_LM2 = {"text_in": "llm_config", "model_type": "internlm2"}
SIGLIP_TILE = {"tile_size": 28, "connector": {"type": "resampler", "num_queries": 5}}
SHORT = {"model_type": "sam_vision_model", "tower_options": {"neck": "short", "unshuffle": 2, "input_size": 64}}
CORNERS = {"type": "channel_concat", "align": "corners", "grid": 4}


def _eagle(recipe: str, *extras: dict[str, Any]) -> Original:
    eva = len(extras)  # the last but one of the list
    return Original(
        "eagle",
        0,
        recipe,
        low_res=CLIP,
        high_res=CONVNEXT_SIZES,
        config={"extra_vision_configs": list(extras), "high_res_tile_size": 128, "fusion": CORNERS},
        extra={
            f"{_EAGLE}0.vision_tower.vision_model.embeddings.class_embedding": (20,),
            f"{_EAGLE}1.vision_tower.head.norm.weight": (13,),
            f"{_EAGLE}{eva}.vision_tower.rope_win.freqs_cos": (4, 8),
        },
    )


_EAGLE2 = "vision_model.vision_model."
_DEEPSEEK = "vision_model.vision_tower_low.vision_tower."
# Eagle2: SigLIP's size is neither the tile's nor the ConvNeXt's, whose last map has its blocks of 2 x 2 patches.
EAGLE2_TOWERS: dict[str, Any] = {
    "low_res": {**SIGLIP, "image_size": 28, "patch_size": 7, "tower_options": {"input_size": 28}},
    "high_res": {**CONVNEXT_SIZES, "tower_options": {"norm_eps": 1e-5, "encodes": "views", "input_size": 64}},
    "source": {"force_image_size": 40, "max_dynamic_patch": 4, "use_thumbnail": True},
    "text_in": "llm_config",
    "model_type": "qwen2",
}
EAGLE2_HEADS = {
    f"{_EAGLE2}vision_towers.0.vision_tower.vision_model.head.probe": (1, 1, 20),
    f"{_EAGLE2}vision_towers.1.vision_tower.head.norm.weight": (13,),
}
DEEPSEEK_TOWERS: dict[str, Any] = {
    "low_res": {**SIGLIP, "image_size": 28, "patch_size": 7, "hidden_act": "gelu"},
    "high_res": {**SAM, "tower_options": {"tap": 1}},
    "images": {"canvas": {"type": "redrawn_square", "side": 64, "least": 5}},
}

ORIGINALS = {
    "deepseek-vl-hybrid": Original(
        "deepseek-vl-hybrid",
        2,
        "deepseek-vl-hybrid",
        **DEEPSEEK_TOWERS,
        extra={f"{_DEEPSEEK}attn_pool.latent": (1, 1, 20), "vision_model.high_layer_norm.bias": (24,)},
        text_in="language_config",
    ),
    "eagle2": Original("eagle2", 0, "eagle2", **EAGLE2_TOWERS, config={"tile_size": 40}, extra=EAGLE2_HEADS),
    "eagle2-weight": Original("eagle2", 1, "eagle2", **EAGLE2_TOWERS, config={"tile_size": 40}),
    "eagle2-2b": Original(
        "eagle2-small",
        0,
        "eagle2-2b",
        low_res={**SIGLIP, "image_size": 28, "patch_size": 7, "tower_options": {"input_size": 28}},
        config={"tile_size": 40, "tie_word_embeddings": False},
        source={"force_image_size": 40},
        extra={f"{_EAGLE2}head.probe": (1, 1, 20)},
        text_in="llm_config",
        model_type="qwen2",
    ),
    "cogvlm2-video": Original(
        "cogvlm2-video",
        0,
        "cogvlm2-video",
        low_res=EVA2_CLIP,
        source={"num_multi_query_heads": 2, "template_version": "chat"},
        extra={"model.layers.1.self_attn.rotary_emb.inv_freq": (3,)},
    ),
    "videollama2": Original(
        "videollama2",
        0,
        "videollama2-7b",
        low_res=CLIP,
        source={"mm_projector_type": "stc_connector", "num_frames": 3, "model_type": "videollama2_mistral"},
        extra={f"{_CLIP}post_layernorm.bias": (20,)},
        model_type="mistral",
    ),
    "deepseek-ocr": Original(
        "deepseek-ocr",
        0,
        "deepseek-ocr",
        low_res=CLIP | {"tower_options": {"positions": "bicubic_antialias"}},
        high_res=SAM | {"tower_options": {"positions": "bicubic_antialias", "downsample": [7, 20]}},
        config={"tile_size": 64},
        images={"canvas": {"type": "deepseek_ocr", "patch_size": 8, "overview_size": 96}},
        extra={
            "model.vision_model.embeddings.patch_embedding.weight": (20, 3, 7, 7),
            "model.embed_tokens.weight": (9, 24),
            "model.layers.1.self_attn.q_proj.weight": (24, 24),
            "model.norm.weight": (24,),
            "lm_head.weight": (9, 24),
        },
    ),
    "llava-next": Original("llava-next", 4, "llava-next", low_res=CLIP, extra={f"{_CLIP}post_layernorm.bias": (20,)}),
    "granite4-vision": Original(
        "granite4-vision",
        0,
        "granite4-vision",
        low_res=GRANITE_SIGLIP | {"tower_options": {"norm": False}},
        config=projected(GRANITE),
        source=GRANITE | {"vision_config": GRANITE_SIGLIP | {"model_type": "siglip_vision_model"}},
        extra={"model.vision_tower.post_layernorm.bias": (20,)},
        text_in="text_config",
        text={"num_hidden_layers": 6},
        model_type="granite",
    ),
    "llava-hr": Original(
        "llava-hr",
        0,
        "llava-hr",
        low_res=CLIP,
        high_res=CONVNEXT_SIZES,
        config={"tile_size": 42, "high_res_tile_size": 192},
        extra={
            f"{_HR}fast_vision_tower.vision_tower.vision_model.embeddings.class_embedding": (20,),
            f"{_HR}slow_vision_tower.vision_tower.head.fc.weight": (3, 13),
        },
    ),
    "mini-gemini-hd": Original(
        "mini-gemini",
        0,
        "mini-gemini-hd",
        low_res=CLIP,
        high_res=CONVNEXT_SIZES,
        config={"high_res_tile_size": 128},
        source={"image_grid": 2, "image_global": True},
        extra={f"{_CLIP}post_layernorm.bias": (20,), f"{_CLIP}encoder.layers.4.mlp.fc1.bias": (37,)},
    ),
    "eagle-x4": _eagle("eagle-x4", EVA, PIX2STRUCT),
    "eagle-x5": _eagle("eagle-x5", SAM | SHORT, EVA, PIX2STRUCT),
    "llava-uhd": Original(
        "llava-uhd",
        0,
        "llava-uhd",
        low_res=CLIP,
        config={"connector": {"type": "adaptive_resampler", "grid_size": 3}},
        images={"canvas": {"type": "uhd", "patch_size": 7}},
    ),
    "internvl2": Original(
        "internvl", 2, "internvl2", low_res=VIT, source={"vision_config": VIT | {"qkv_bias": True}}, **_LM2
    ),
    "internvl2-qwen": Original(
        "internvl",
        3,
        "internvl2",
        low_res=VIT | {"use_qk_norm": True},
        source={"vision_config": VIT | {"qk_normalization": True}},
        text_in="llm_config",
        model_type="qwen2",
    ),
    "leo": Original(
        "leo",
        0,
        "leo",
        low_res=VIT,
        high_res=SAM,
        config={"high_res_tile_size": 64},
        source={"vision_config": VIT},
        **_LM2,
    ),
    "minicpm-v-2.6": Original(
        "minicpm-v-2.6",
        0,
        "minicpm-v-2.6",
        low_res=SIGLIP,
        config=SIGLIP_TILE,
        images={"canvas": {"type": "minicpm", "patch_size": 7}},
        model_type="qwen2",
    ),
    "minicpm-v-4.6": Original(
        "minicpm-v-4.6",
        0,
        "minicpm-v-4.6",
        low_res=SIGLIP | {"tower_options": {"positions": "buckets", "norm": True, "merge_after": 2}},
        config={"tile_size": 56},
        images={"canvas": {"type": "minicpm", "patch_size": 7, "multiple": 4}},
        source={"vision_config": SIGLIP, "insert_layer_id": 1, "image_size": 56},
        text_in="text_config",
        model_type="qwen3_5_text",
        text=QWEN3_5,
    ),
}


def text_beside(folder: Path) -> Path:
    """The language model beside an original whose own cannot be imported."""
    return folder.with_name(f"{folder.name}-text")


def import_settings(original: Original, folder: Path) -> dict[str, Any]:
    """Keyword arguments of `import_checkpoint` for what `write_original` wrote."""
    is_replaced = SYSTEMS[original.system].text_is_replaced
    return original.settings | ({"text_weights": text_beside(folder)} if is_replaced else {})


def tiny_original(original: Original) -> FilaConfig:
    """Config of the tiny model before it is exported; its vocabulary is that of the original."""
    recipe = load_recipe(original.recipe)
    tokens = tokenizer_of(original)
    text: Any = {"vocab_size": len(tokens), **TEXT, "rms_norm_eps": 1e-5, **original.text}
    if original.model_type != recipe.config["text_config"]["model_type"] and original.model_type != "internlm2":
        text = {**text, "model_type": original.model_type}
    return FilaConfig.from_recipe(
        original.recipe,
        low_res=original.low_res,
        high_res=original.high_res,
        text=text,
        image_token_id=tokens.get_vocab().get(recipe.processor["image_token"], 0),
        **original.config,
    )


def tokenizer_of(original: Original) -> Any:
    """Bytes, and the layout's special tokens."""
    return byte_tokenizer(load_recipe(original.recipe).special_tokens, None)


def write_original(folder: Path, original: Original, *, shards: int = 1) -> dict[str, torch.Tensor]:
    """Write config.json, tokenizer and safetensors.

    Returns:
        The tensors that were written.
    """
    config = tiny_original(original)
    model = FilaForConditionalGeneration(config)
    randomise(model)
    ours = {key: tensor for key, tensor in model.state_dict().items() if key not in model.all_tied_weights_keys}
    system = SYSTEMS[original.system]
    layout = system.layouts[original.layout]
    if system.text_is_replaced:
        write_text(text_beside(folder))
        ours = {key: tensor for key, tensor in ours.items() if not key.startswith((LANGUAGE_MODEL, "lm_head."))}
    plan = export_plan(ours, layout.templates(config), name=original.recipe)
    state = {key: origin.function([ours[name] for name in origin.sources]).clone() for key, origin in plan.items()}
    state |= {key: torch.rand(shape) for key, shape in original.extra.items()}
    folder.mkdir(parents=True, exist_ok=True)
    tokens = tokenizer_of(original)
    tokens.save_pretrained(folder)
    text = {"vocab_size": len(tokens), **TEXT, "rms_norm_eps": 1e-5, **original.text}
    section = text if original.text_in is None else {original.text_in: {**text, "model_type": original.model_type}}
    (folder / "config.json").write_text(json.dumps({"model_type": original.system, **section, **original.source}))
    _save(folder, state, shards)
    return state


def _save(folder: Path, state: dict[str, torch.Tensor], shards: int) -> None:
    if shards == 1:
        save_file(state, folder / "model.safetensors")
        return
    weight_map = {key: f"model-{index % shards}.safetensors" for index, key in enumerate(state)}
    for name in set(weight_map.values()):
        save_file({key: state[key] for key, shard in weight_map.items() if shard == name}, folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
