# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Keys and shapes of the original systems' checkpoints, as recorded from their code: pattern and shape, None: any."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

Shape = tuple[int, ...] | None

_WB = r"\.(?:weight|bias)"
_LLAMA = {
    r"model\.embed_tokens\.weight": None,
    r"model\.layers\.\d+\.self_attn\.[qkvo]_proj\.weight": None,
    r"model\.layers\.\d+\.mlp\.(?:gate|up|down)_proj\.weight": None,
    r"model\.layers\.\d+\.(?:input|post_attention)_layernorm\.weight": None,
    r"model\.norm\.weight": None,
    r"lm_head\.weight": None,
}


_TOWER_4_6, _BASE = r"model\.vision_tower\.", r"model\."
_QWEN3_5 = {
    r"model\.embed_tokens\.weight": (248320, 1024),
    r"model\.layers\.\d+\.linear_attn\.(?:conv1d\.weight|dt_bias|A_log|norm\.weight)": None,
    r"model\.layers\.\d+\.linear_attn\.(?:in_proj_(?:qkv|z|b|a)|out_proj)\.weight": None,
    r"model\.layers\.\d+\.self_attn\.(?:[qkvo]_proj|[qk]_norm)\.weight": None,
    r"model\.layers\.\d+\.mlp\.(?:gate|up|down)_proj\.weight": None,
    r"model\.layers\.\d+\.(?:input|post_attention)_layernorm\.weight": None,
    r"model\.norm\.weight": None,
}


def _clip(prefix: str, *, cls: bool = True) -> dict[str, Shape]:
    found: dict[str, Shape] = {
        prefix + r"embeddings\.patch_embedding\.weight": (1024, 3, 14, 14),
        prefix + r"embeddings\.position_embedding\.weight": (577, 1024),
        prefix + r"pre_layrnorm" + _WB: (1024,),
        prefix + r"encoder\.layers\.\d+\.layer_norm[12]" + _WB: (1024,),
        prefix + r"encoder\.layers\.\d+\.self_attn\.(?:q|k|v|out)_proj\.weight": (1024, 1024),
        prefix + r"encoder\.layers\.\d+\.self_attn\.(?:q|k|v|out)_proj\.bias": (1024,),
        prefix + r"encoder\.layers\.\d+\.mlp\.fc[12]" + _WB: None,
    }
    return found | ({prefix + r"embeddings\.class_embedding": (1024,)} if cls else {})


def _convnext(prefix: str, stem: str, stages: str, scale: str, width: int) -> dict[str, Shape]:
    block = prefix + stages + r"\.\d\.blocks\.\d+\."
    return {
        prefix + stem + r"\.0\.weight": (width, 3, 4, 4),
        prefix + stem + r"\.0\.bias": (width,),
        prefix + stem + r"\.1" + _WB: (width,),
        prefix + stages + r"\.[123]\.downsample\.[01]" + _WB: None,
        block + r"(?:conv_dw|norm|mlp\.fc1|mlp\.fc2)" + _WB: None,
        block + scale: None,
    }


_GRANITE4_LAYER = r"model\.(?:layerwise|spatial)_projectors\.[0-3]\."
_GRANITE4_BLOCK = _GRANITE4_LAYER + r"qformer\.encoder\.layer\.0\."
# As transformers 5.23 writes them; no checkpoint was at hand.
_GRANITE4 = {
    **{key.replace(r"model\.", r"model\.language_model\.", 1): shape for key, shape in _LLAMA.items()},
    _GRANITE4_LAYER + "query": (1, 16, 1152),
    _GRANITE4_LAYER + "image_positions": (1, 64, 1152),
    _GRANITE4_LAYER + r"(?:norm|qformer\.layernorm)" + _WB: (1152,),
    _GRANITE4_LAYER + r"out_linear\.weight": (2560, 1152),
    _GRANITE4_LAYER + r"out_linear\.bias": (2560,),
    _GRANITE4_BLOCK + r"(?:cross)?attention\.attention\.(?:query|key|value)\.weight": (1152, 1152),
    _GRANITE4_BLOCK + r"(?:cross)?attention\.attention\.(?:query|key|value)\.bias": (1152,),
    _GRANITE4_BLOCK + r"(?:cross)?attention\.output\.(?:dense|LayerNorm)" + _WB: None,
    _GRANITE4_BLOCK + r"(?:intermediate_query\.dense|output_query\.(?:dense|LayerNorm))" + _WB: None,
    r"model\.vision_tower\.embeddings\.(?:patch_embedding" + _WB + r"|position_embedding\.weight)": None,
    r"model\.vision_tower\.encoder\.layers\.\d+\.(?:layer_norm[12]|mlp\.fc[12]|self_attn\.(?:q|k|v|out)_proj)"
    + _WB: None,
    r"model\.image_newline": (2560,),
}
_MM_PROJECTOR = {r"model\.mm_projector\.[02]" + _WB: None}


def _llava_hr(high: int, width: int) -> dict[str, Shape]:
    prefix = r"model\.vision_tower\."
    adapter = prefix + r"align_stages_latent\.[012]\."
    return {
        **_LLAMA,
        **_clip(prefix + r"fast_vision_tower\.vision_tower\.vision_model\.", cls=False),
        **_convnext(prefix + r"slow_vision_tower\.vision_tower\.", "stem", "stages", "weight", width),
        adapter + r"slow_conv\.weight": (high, high, 1, 1),
        adapter + r"slow_proj\.weight": (1024, high, 1, 1),
        adapter + r"fast_conv\.weight": (1024, 1, 7, 7),
        adapter + r"fast_proj\.weight": (1024, 1024, 1, 1),
        adapter + r"gate\.0\.weight": (512, 2048),
        adapter + r"gate\.2\.weight": (1, 512),
        adapter + r"(?:slow_conv|slow_proj|fast_conv|fast_proj|gate\.[02])\.bias": None,
        prefix + r"align_stages\.0\.fast_proj\.weight": (1024, 1024),
        prefix + r"align_stages\.0\.slow_proj\.weight": (1024, high),
        prefix + r"align_stages\.0\.(?:fast|slow)_proj\.bias": (1024,),
        **_MM_PROJECTOR,
    }


def _resampler(prefix: str, width: int, key_width: int, queries: int) -> dict[str, Shape]:
    return {
        prefix + "query": (queries, width),
        prefix + "proj": (width, width),
        prefix + r"kv_proj\.weight": (width, key_width),
        prefix + r"attn\.in_proj_weight": (3 * width, width),
        prefix + r"attn\.in_proj_bias": (3 * width,),
        prefix + r"attn\.out_proj" + _WB: None,
        prefix + r"ln_(?:q|kv|post)" + _WB: (width,),
    }


def _intern_vit(prefix: str) -> dict[str, Shape]:
    layer = prefix + r"encoder\.layers\.\d+\."
    return {
        prefix + r"embeddings\.class_embedding": (1, 1, 1024),
        prefix + r"embeddings\.patch_embedding\.weight": (1024, 3, 14, 14),
        prefix + r"embeddings\.patch_embedding\.bias": (1024,),
        prefix + r"embeddings\.position_embedding": (1, 1025, 1024),
        layer + r"attn\.qkv\.weight": (3072, 1024),
        layer + r"attn\.qkv\.bias": (3072,),
        layer + r"(?:attn\.proj|mlp\.fc[12]|norm[12])" + _WB: None,
        layer + r"ls[12]": (1024,),
    }


_INTERN_LM2 = {
    r"language_model\.model\.tok_embeddings\.weight": None,
    r"language_model\.model\.layers\.\d+\.attention\.wqkv\.weight": (6144, 4096),
    r"language_model\.model\.layers\.\d+\.attention\.wo\.weight": (4096, 4096),
    r"language_model\.model\.layers\.\d+\.feed_forward\.w[123]\.weight": None,
    r"language_model\.model\.layers\.\d+\.(?:attention|ffn)_norm\.weight": (4096,),
    r"language_model\.model\.norm\.weight": (4096,),
    r"language_model\.output\.weight": None,
}


def _mlp1(name: str) -> dict[str, Shape]:
    return {
        name + r"\.0" + _WB: (4096,),
        name + r"\.1\.weight": (4096, 4096),
        name + r"\.3\.weight": (4096, 4096),
        name + r"\.[13]\.bias": (4096,),
    }


def _sam(prefix: str, *, short: bool = False) -> dict[str, Shape]:
    found: dict[str, Shape] = {
        prefix + r"patch_embed\.projection\.weight": (1024, 3, 16, 16),
        prefix + r"patch_embed\.projection\.bias": (1024,),
        prefix + "pos_embed": (1, 64, 64, 1024),
        prefix + r"layers\.\d+\.(?:layer_norm[12]|attn\.(?:qkv|proj)|mlp\.lin[12])" + _WB: None,
        prefix + r"layers\.\d+\.attn\.rel_pos_[hw]": None,
        prefix + r"neck\.conv1\.weight": (256, 1024, 1, 1),
        prefix + r"neck\.layer_norm1" + _WB: (256,),
    }
    if not short:
        found |= {prefix + r"neck\.conv2\.weight": (256, 256, 3, 3), prefix + r"neck\.layer_norm2" + _WB: (256,)}
    return found


def _eva(prefix: str) -> dict[str, Shape]:
    block = prefix + r"blocks\.\d+\."
    return {
        prefix + r"patch_embed\.proj" + _WB: None,
        prefix + "pos_embed": (1, 197, 1024),
        block + r"norm[12]" + _WB: (1024,),
        block + r"attn\.[qkv]_proj\.weight": (1024, 1024),
        block + r"attn\.[qv]_bias": (1024,),
        block + r"attn\.proj" + _WB: None,
        block + r"mlp\.(?:w[123]|ffn_ln)" + _WB: None,
    }


_PIX2STRUCT = r"(?:embeddings|encoder\.layer\.\d+|layernorm)\..+"


def _eagle(*others: dict[str, Shape], width: int) -> dict[str, Shape]:
    prefix = r"model\.vision_tower\.vision_towers\."
    found: dict[str, Shape] = {**_LLAMA, r"model\.mm_projector\.0\.weight": (4096, width), **_MM_PROJECTOR}
    found |= _clip(prefix + r"0\.vision_tower\.vision_model\.", cls=False)
    found |= _convnext(prefix + r"1\.vision_tower\.", "stem", "stages", "weight", 384)
    for other in others:
        found |= other
    return found


def _place(number: int) -> str:
    return rf"model\.vision_tower\.vision_towers\.{number}\.vision_tower\."


@dataclass(frozen=True)
class Recorded:
    """The keys of a recipe's original: system, index of its layout, and patterns with shapes."""

    system: str
    layout: int
    keys: dict[str, Shape]


_MINING = r"model\.vlm_uni_{}_projector\."
_CLIP_PREFIX = r"model\.vision_tower\.vision_tower\.vision_model\."
_MINI_GEMINI: dict[str, Shape] = {
    **_LLAMA,
    **_clip(_CLIP_PREFIX),
    **_convnext(r"model\.vision_tower_aux\.", "vision_stem", "vision_stages", "gamma", 192),
    _MINING.format("query") + r"0" + _WB: (1024,),
    _MINING.format("query") + r"1\.weight": (1024, 1024),
    _MINING.format("(?:aux|val)") + r"0" + _WB: (2880,),
    _MINING.format("(?:aux|val)") + r"1\.weight": (1024, 2880),
    _MINING.format("(?:query|aux|val)") + r"1\.bias": (1024,),
    **_MM_PROJECTOR,
}
_VPM = r"vpm\."


def _videollama2(connector: str, tower: dict[str, Shape]) -> dict[str, Shape]:
    """The connector's keys and shapes are those of tests/golden/videollama2_real_state_keys.json."""
    path = Path(__file__).parents[1] / "golden" / "videollama2_real_state_keys.json"
    keys = json.loads(path.read_text(encoding="utf-8"))[connector]["keys"]
    projector: dict[str, Shape] = {re.escape(f"model.mm_projector.{key}"): tuple(shape) for key, shape in keys.items()}
    return {**_LLAMA, **tower, **projector}


_SIGLIP: dict[str, Shape] = {
    _CLIP_PREFIX + r"embeddings\.patch_embedding\.weight": (1152, 3, 14, 14),
    _CLIP_PREFIX + r"embeddings\.patch_embedding\.bias": (1152,),
    _CLIP_PREFIX + r"embeddings\.position_embedding\.weight": (729, 1152),
    _CLIP_PREFIX + r"encoder\.layers\.\d+\.(?:layer_norm[12]|self_attn\.(?:q|k|v|out)_proj|mlp\.fc[12])" + _WB: None,
}
_QKV_BIAS: dict[str, Shape] = {r"model\.layers\.\d+\.self_attn\.[qkv]_proj\.bias": None}

# Shapes of the embeddings, the MLPs, the norms, the convolution, the GLU and boi are in the published list; the others
# follow from the published sizes. 997 tensors, and a buffer of rotary frequencies per layer.
_COG_LAYER = r"model\.vision\.transformer\.layers\.\d+\."
_COGVLM2_VIDEO: dict[str, Shape] = {
    r"(?:model\.embed_tokens|lm_head)\.weight": (128256, 4096),
    r"model\.norm\.weight": (4096,),
    r"model\.layers\.\d+\.(?:input|post_attention)_layernorm\.weight": (4096,),
    r"model\.layers\.\d+\.mlp\.language_mlp\.(?:gate|up)_proj\.weight": (14336, 4096),
    r"model\.layers\.\d+\.mlp\.language_mlp\.down_proj\.weight": (4096, 14336),
    r"model\.layers\.\d+\.self_attn\.language_expert_query_key_value\.weight": (6144, 4096),
    r"model\.layers\.\d+\.self_attn\.language_expert_dense\.weight": (4096, 4096),
    r"model\.vision\.(?:boi|eoi)": (1, 1, 4096),
    r"model\.vision\.conv\.weight": (1792, 1792, 2, 2),
    r"model\.vision\.conv\.bias": (1792,),
    r"model\.vision\.linear_proj\.linear_proj\.weight": (4096, 1792),
    r"model\.vision\.linear_proj\.norm1" + _WB: (4096,),
    r"model\.vision\.linear_proj\.(?:dense_h_to_4h|gate_proj)\.weight": (14336, 4096),
    r"model\.vision\.linear_proj\.dense_4h_to_h\.weight": (4096, 14336),
    r"model\.vision\.patch_embedding\.cls_embedding": (1, 1792),
    r"model\.vision\.patch_embedding\.proj\.weight": (1792, 3, 14, 14),
    r"model\.vision\.patch_embedding\.proj\.bias": (1792,),
    r"model\.vision\.patch_embedding\.position_embedding\.weight": (257, 1792),
    _COG_LAYER + r"(?:input|post_attention)_layernorm" + _WB: (1792,),
    _COG_LAYER + r"attention\.query_key_value\.weight": (5376, 1792),
    _COG_LAYER + r"attention\.query_key_value\.bias": (5376,),
    _COG_LAYER + r"attention\.dense\.weight": (1792, 1792),
    _COG_LAYER + r"mlp\.fc1\.weight": (15360, 1792),
    _COG_LAYER + r"mlp\.fc1\.bias": (15360,),
    _COG_LAYER + r"mlp\.fc2\.weight": (1792, 15360),
    _COG_LAYER + r"(?:attention\.dense|mlp\.fc2)\.bias": (1792,),
}

_SAM_BLOCK, _CLIP_LAYER = r"model\.sam_model\.blocks\.\d+\.", r"model\.vision_model\.transformer\.layers\.\d+\."
# as in tests/golden/deepseek_ocr_state_keys.json
_DEEPSEEK_OCR: dict[str, Shape] = {
    r"model\.(?:image_newline|view_seperator)": (1280,),
    r"model\.projector\.layers\.weight": (1280, 2048),
    r"model\.projector\.layers\.bias": (1280,),
    r"model\.sam_model\.pos_embed": (1, 64, 64, 768),
    r"model\.sam_model\.patch_embed\.proj\.weight": (768, 3, 16, 16),
    r"model\.sam_model\.patch_embed\.proj\.bias": (768,),
    _SAM_BLOCK + r"(?:norm[12]|attn\.proj|mlp\.lin[12])" + _WB: None,
    _SAM_BLOCK + r"attn\.qkv\.weight": (2304, 768),
    _SAM_BLOCK + r"attn\.qkv\.bias": (2304,),
    _SAM_BLOCK + r"attn\.rel_pos_[hw]": None,
    r"model\.sam_model\.neck\.0\.weight": (256, 768, 1, 1),
    r"model\.sam_model\.neck\.2\.weight": (256, 256, 3, 3),
    r"model\.sam_model\.neck\.[13]" + _WB: (256,),
    r"model\.sam_model\.net_2\.weight": (512, 256, 3, 3),
    r"model\.sam_model\.net_3\.weight": (1024, 512, 3, 3),
    r"model\.vision_model\.embeddings\.class_embedding": (1024,),
    r"model\.vision_model\.embeddings\.position_embedding\.weight": (257, 1024),
    r"model\.vision_model\.pre_layrnorm" + _WB: (1024,),
    _CLIP_LAYER + r"self_attn\.qkv_proj\.weight": (3072, 1024),
    _CLIP_LAYER + r"self_attn\.qkv_proj\.bias": (3072,),
    _CLIP_LAYER + r"(?:self_attn\.out_proj|layer_norm[12]|mlp\.fc[12])" + _WB: None,
}


def _siglip_at(prefix: str, width: int, patch: int, positions: int) -> dict[str, Shape]:
    return {
        prefix + r"embeddings\.patch_embedding\.weight": (width, 3, patch, patch),
        prefix + r"embeddings\.patch_embedding\.bias": (width,),
        prefix + r"embeddings\.position_embedding\.weight": (positions, width),
        prefix + r"encoder\.layers\.\d+\.(?:layer_norm[12]|self_attn\.(?:q|k|v|out)_proj|mlp\.fc[12])" + _WB: None,
        prefix + r"post_layernorm" + _WB: (width,),
    }


def _eagle2(towers: dict[str, Shape], features: int, width: int) -> dict[str, Shape]:
    """Names and the shapes of `mlp1` as its remote code has them; the index of the release could not be read."""
    return {
        **towers,
        r"mlp1\.0" + _WB: (features,),
        r"mlp1\.1\.weight": (width, features),
        r"mlp1\.3\.weight": (width, width),
        r"mlp1\.[13]\.bias": (width,),
        **{rf"language_model\.{key}": shape for key, shape in _LLAMA.items() if "lm_head" not in key},
        **{rf"language_model\.{key}": shape for key, shape in _QKV_BIAS.items()},
    }


_VISION = r"vision_model\.vision_model\."
_EAGLE2_9B = {
    **_siglip_at(_VISION + r"vision_towers\.0\.vision_tower\.vision_model\.", 1152, 14, 1024),
    **_convnext(_VISION + r"vision_towers\.1\.vision_tower\.", "stem", "stages", "gamma", 384),
    r"language_model\.lm_head\.weight": None,
}
_DEEPSEEK_HIGH = r"vision_model\.vision_tower_high\.vision_tower\."
_DEEPSEEK_LOW = r"vision_model\.vision_tower_low\.vision_tower\."
_DEEPSEEK_VL: dict[str, Shape] = {
    _DEEPSEEK_HIGH + "pos_embed": (1, 64, 64, 768),
    _DEEPSEEK_HIGH + r"patch_embed\.proj\.weight": (768, 3, 16, 16),
    _DEEPSEEK_HIGH + r"patch_embed\.proj\.bias": (768,),
    _DEEPSEEK_HIGH + r"blocks\.\d+\.(?:norm[12]|attn\.(?:qkv|proj)|mlp\.lin[12])" + _WB: None,
    _DEEPSEEK_HIGH + r"blocks\.\d+\.attn\.rel_pos_[hw]": None,
    _DEEPSEEK_HIGH + r"neck(?:_hd)?\.0\.weight": (256, 768, 1, 1),
    _DEEPSEEK_HIGH + r"neck(?:_hd)?\.2\.weight": (256, 256, 3, 3),
    _DEEPSEEK_HIGH + r"neck(?:_hd)?\.[13]" + _WB: (256,),
    _DEEPSEEK_HIGH + r"downsamples\.0\.weight": (512, 256, 3, 3),
    _DEEPSEEK_HIGH + r"downsamples\.1\.weight": (1024, 512, 3, 3),
    _DEEPSEEK_HIGH + "hd_alpha_downsamples": (1,),
    _DEEPSEEK_LOW + "pos_embed": (1, 576, 1024),
    _DEEPSEEK_LOW + r"patch_embed\.proj\.weight": (1024, 3, 16, 16),
    _DEEPSEEK_LOW + r"patch_embed\.proj\.bias": (1024,),
    _DEEPSEEK_LOW + r"blocks\.\d+\.attn\.qkv\.weight": (3072, 1024),
    _DEEPSEEK_LOW + r"blocks\.\d+\.attn\.qkv\.bias": (3072,),
    _DEEPSEEK_LOW + r"blocks\.\d+\.(?:norm[12]|attn\.proj|mlp\.fc[12])" + _WB: None,
    _DEEPSEEK_LOW + r"norm" + _WB: (1024,),
    r"aligner\.(?:high|low)_up_proj\.weight": (2048, 1024),
    r"aligner\.layers\.1\.weight": (4096, 4096),
    r"aligner\..*\.bias": None,
    **{rf"language_model\.{key}": shape for key, shape in _LLAMA.items()},
}

RECORDED = {
    "deepseek-ocr": Recorded("deepseek-ocr", 0, _DEEPSEEK_OCR),
    "deepseek-vl-hybrid": Recorded("deepseek-vl-hybrid", 2, _DEEPSEEK_VL),
    "eagle2": Recorded("eagle2", 0, _eagle2(_EAGLE2_9B, 7680, 3584)),
    "eagle2-2b": Recorded("eagle2-small", 0, _eagle2(_siglip_at(_VISION, 1152, 14, 1024), 4608, 1536)),
    "cogvlm2-video": Recorded("cogvlm2-video", 0, _COGVLM2_VIDEO),
    "cogvlm2-video-base": Recorded("cogvlm2-video", 0, _COGVLM2_VIDEO),
    "videollama2-7b": Recorded("videollama2", 0, _videollama2("stc_connector", _clip(_CLIP_PREFIX))),
    "videollama2-7b-16f": Recorded("videollama2", 0, _videollama2("stc_connector", _clip(_CLIP_PREFIX))),
    "videollama2.1-7b-16f": Recorded("videollama2", 0, _videollama2("stc_connector_v35", _SIGLIP | _QKV_BIAS)),
    "llava-next": Recorded(
        "llava-next", 4, {**_LLAMA, **_clip(_CLIP_PREFIX), r"model\.image_newline": (4096,), **_MM_PROJECTOR}
    ),
    "granite4-vision": Recorded("granite4-vision", 0, _GRANITE4),
    "llava-hr": Recorded("llava-hr", 0, _llava_hr(1536, 192)),
    "llava-hr-x-13b": Recorded("llava-hr", 0, _llava_hr(3072, 384)),
    "mini-gemini": Recorded("mini-gemini", 0, _MINI_GEMINI),
    "mini-gemini-hd": Recorded("mini-gemini", 0, _MINI_GEMINI),
    "eagle-x4": Recorded("eagle", 0, _eagle(_eva(_place(2)), {_place(3) + _PIX2STRUCT: None}, width=6656)),
    "eagle-x5": Recorded(
        "eagle",
        0,
        _eagle(_sam(_place(2), short=True), _eva(_place(3)), {_place(4) + _PIX2STRUCT: None}, width=7680),
    ),
    "llava-uhd": Recorded(
        "llava-uhd",
        0,
        {
            **_LLAMA,
            **_clip(_CLIP_PREFIX),
            **_resampler(r"model\.mm_projector\.", 5120, 1024, 144),
            r"model\.mm_projector\.pos_embed": (144, 5120),
        },
    ),
    "internvl2": Recorded("internvl", 2, {**_intern_vit(r"vision_model\."), **_mlp1("mlp1"), **_INTERN_LM2}),
    "leo": Recorded(
        "leo",
        0,
        {
            **_intern_vit(r"vision_model_1\."),
            **_sam(r"vision_model_2\."),
            **_mlp1("mlp1"),
            **_mlp1("mlp2"),
            **_INTERN_LM2,
        },
    ),
    "minicpm-v-2.6": Recorded(
        "minicpm-v-2.6",
        0,
        {
            **{rf"llm\.{key}": shape for key, shape in _LLAMA.items()},
            r"llm\.model\.layers\.\d+\.self_attn\.[qkv]_proj\.bias": None,
            _VPM + r"embeddings\.patch_embedding\.weight": (1152, 3, 14, 14),
            _VPM + r"embeddings\.patch_embedding\.bias": (1152,),
            _VPM + r"embeddings\.position_embedding\.weight": (4900, 1152),
            _VPM + r"encoder\.layers\.\d+\.layer_norm[12]" + _WB: (1152,),
            _VPM + r"encoder\.layers\.\d+\.self_attn\.(?:q|k|v|out)_proj" + _WB: None,
            _VPM + r"encoder\.layers\.\d+\.mlp\.fc[12]" + _WB: None,
            _VPM + r"post_layernorm" + _WB: (1152,),
            **_resampler(r"resampler\.", 3584, 1152, 64),
        },
    ),
    "minicpm-v-4.6": Recorded(
        "minicpm-v-4.6",
        0,
        {
            **{rf"model\.language_model\.{key.removeprefix(_BASE)}": shape for key, shape in _QWEN3_5.items()},
            _TOWER_4_6 + r"embeddings\.patch_embedding\.weight": (1152, 3, 14, 14),
            _TOWER_4_6 + r"embeddings\.patch_embedding\.bias": (1152,),
            _TOWER_4_6 + r"embeddings\.position_embedding\.weight": (4900, 1152),
            _TOWER_4_6 + r"encoder\.layers\.\d+\.layer_norm[12]" + _WB: (1152,),
            _TOWER_4_6 + r"encoder\.layers\.\d+\.self_attn\.(?:q|k|v|out)_proj" + _WB: None,
            _TOWER_4_6 + r"encoder\.layers\.\d+\.mlp\.fc[12]" + _WB: None,
            _TOWER_4_6 + r"post_layernorm" + _WB: (1152,),
            _TOWER_4_6 + r"vit_merger\.layer_norm1" + _WB: (1152,),
            _TOWER_4_6 + r"vit_merger\.self_attn\.(?:q|k|v|out)_proj" + _WB: None,
            _TOWER_4_6 + r"vit_merger\.pre_norm" + _WB: (4 * 1152,),
            _TOWER_4_6 + r"vit_merger\.linear_1\.weight": (4 * 4304, 4 * 1152),
            _TOWER_4_6 + r"vit_merger\.linear_2\.weight": (1152, 4 * 4304),
            _TOWER_4_6 + r"vit_merger\.linear_[12]\.bias": None,
            r"model\.merger\.mlp\.0\.pre_norm" + _WB: (4 * 1152,),
            r"model\.merger\.mlp\.0\.linear_1\.weight": (4 * 1152, 4 * 1152),
            r"model\.merger\.mlp\.0\.linear_2\.weight": (1024, 4 * 1152),
            r"model\.merger\.mlp\.0\.linear_[12]\.bias": None,
            r"lm_head\.weight": None,
        },
    ),
}
