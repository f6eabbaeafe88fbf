# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Tiny towers that encode views as transformers' classes write them, alone and inside whole models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import (
    Dinov2Config,
    Dinov2ForImageClassification,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    InternVLVisionModel,
    Pix2StructConfig,
    Pix2StructForConditionalGeneration,
    Pix2StructVisionConfig,
    Pix2StructVisionModel,
    SamConfig,
    SamModel,
    SamVisionConfig,
    SamVisionModel,
    SiglipConfig,
    SiglipForImageClassification,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from tests.helpers import randomise
from tests.modeling.tiny_towers import VIT

SIGLIP = SiglipVisionConfig(**VIT, intermediate_size=37)
SIGLIP_TEXT = {
    "vocab_size": 19,
    "hidden_size": 20,
    "intermediate_size": 9,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
INTERNVIT = InternVLVisionConfig(
    **{**VIT, "image_size": [28, 28], "patch_size": [7, 7]}, intermediate_size=37, use_mean_pooling=False
)
QWEN2 = {
    "model_type": "qwen2",
    "vocab_size": 19,
    "hidden_size": 8,
    "intermediate_size": 9,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
SAM = SamVisionConfig(
    hidden_size=20,
    output_channels=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    image_size=128,
    window_size=3,
    global_attn_indexes=[1],
    mlp_dim=17,
    num_pos_feats=4,
)
SAM_PROMPT = {"hidden_size": 8, "image_size": 128, "patch_size": 16, "mask_input_channels": 4}
SAM_MASKS = {"hidden_size": 8, "mlp_dim": 9, "num_attention_heads": 2, "iou_head_hidden_dim": 8}
PIX2STRUCT = Pix2StructVisionConfig(
    hidden_size=12, d_ff=31, d_kv=5, num_hidden_layers=2, num_attention_heads=3, seq_len=19
)
PIX2STRUCT_TEXT = {"vocab_size": 19, "hidden_size": 12, "d_kv": 5, "d_ff": 9, "num_layers": 1, "num_heads": 3}

# Name of the class to the model and, inside it, the path of the tower.
VITS: dict[str, tuple[Callable[[], Any], str]] = {
    "SiglipVisionModel": (lambda: SiglipVisionModel(SIGLIP), ""),
    "SiglipModel": (
        lambda: SiglipModel(SiglipConfig(vision_config=SIGLIP.to_dict(), text_config=SIGLIP_TEXT)),
        "vision_model",
    ),
    "SiglipForImageClassification": (
        lambda: SiglipForImageClassification(SiglipConfig(vision_config=SIGLIP.to_dict(), text_config=SIGLIP_TEXT)),
        "vision_model",
    ),
    "Dinov2Model": (lambda: Dinov2Model(Dinov2Config(**VIT)), ""),
    "Dinov2ForImageClassification": (
        lambda: Dinov2ForImageClassification(Dinov2Config(**VIT, use_swiglu_ffn=True)),
        "dinov2",
    ),
    "Dinov2WithRegistersModel": (
        lambda: Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**VIT, num_register_tokens=3)),
        "",
    ),
    "InternVLVisionModel": (lambda: InternVLVisionModel(INTERNVIT), ""),
    "InternVLForConditionalGeneration": (
        lambda: InternVLForConditionalGeneration(InternVLConfig(vision_config=INTERNVIT.to_dict(), text_config=QWEN2)),
        "model.vision_tower",
    ),
    "SamVisionModel": (lambda: SamVisionModel(SAM), "vision_encoder"),
    "SamModel": (
        lambda: SamModel(
            SamConfig(vision_config=SAM.to_dict(), prompt_encoder_config=SAM_PROMPT, mask_decoder_config=SAM_MASKS)
        ),
        "vision_encoder",
    ),
    "Pix2StructVisionModel": (lambda: Pix2StructVisionModel(PIX2STRUCT), ""),
    "Pix2StructForConditionalGeneration": (
        lambda: Pix2StructForConditionalGeneration(
            Pix2StructConfig(vision_config=PIX2STRUCT.to_dict(), text_config=PIX2STRUCT_TEXT)
        ),
        "encoder",
    ),
}


def write_vit(folder: Path, name: str) -> Any:
    """Write the checkpoint of a class and return its tower, in eval mode."""
    make, path = VITS[name]
    model = make()
    randomise(model)
    model.eval().save_pretrained(folder)
    return model.get_submodule(path)
