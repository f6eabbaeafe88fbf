# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""transformers' own DeepSeek-VL hybrid, imported: the same logits and answers; and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    DeepseekVLHybridConfig,
    DeepseekVLHybridForConditionalGeneration,
)

from fila.conversion.export_checkpoint import export_checkpoint
from fila.conversion.import_checkpoint import import_checkpoint
from fila.conversion.system_deepseek_vl import deepseek_vl_settings
from tests.cases import each
from tests.conversion.parts import PLACES, byte_tokenizer
from tests.helpers import random_image, randomise

LOW, HIGH, PATCH = 32, 64, 4
# Largest difference as a share of the largest logit, in float64; measured: 0. In float32 it is 2e-5: the width of
# 1024, which transformers' class has fixed, makes the random weights' logits depend on rounding.
TOLERANCE = 1e-9


def write_deepseek(folder: Path) -> Any:
    """A tiny random checkpoint as transformers writes it."""
    tokenizer = byte_tokenizer(["<image_placeholder>"], PLACES)
    tokenizer.pad_token = "<unk>"
    config = DeepseekVLHybridConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 1024,  # the convolutions of transformers' class have fixed channels
            "intermediate_size": 19,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": LOW,
            "patch_size": PATCH,
            "hidden_act": "gelu",
            "vision_use_head": False,
        },
        high_res_vision_config={
            "model_type": "sam_vision_model",
            "hidden_size": 24,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "mlp_dim": 31,
            "output_channels": 256,
            "image_size": HIGH,
            "patch_size": 4,
            "window_size": 3,
            "global_attn_indexes": [1, 2],
        },
        text_config={
            "model_type": "llama",
            "hidden_size": 24,
            "intermediate_size": 31,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 1024,
        },
        image_token_id=len(tokenizer) - 1,
    )
    model = DeepseekVLHybridForConditionalGeneration(config).eval()
    randomise(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("deepseek_vl")
    theirs = write_deepseek(folder / "theirs").double()
    import_checkpoint(folder / "theirs", folder / "ours", system="deepseek-vl-hybrid", progress=False)
    model = AutoModelForImageTextToText.from_pretrained(folder / "ours", dtype=torch.float64).eval()
    model._generation_config.suppress_tokens = None  # theirs may write placeholders
    return theirs, model, AutoProcessor.from_pretrained(folder / "ours"), folder


def batches(both: Any) -> tuple[Any, Any]:
    """Theirs and ours of the same pixels: two images, and a row of text."""
    _, _, processor, _ = both
    token = processor.image_token
    texts = [f"one {token} here", token, "none at all"]
    ours = processor(
        images=[random_image(53, 97), random_image(64, 40, seed=1)], text=texts, return_tensors="pt", padding=True
    )
    ours = {name: value.double() if value.is_floating_point() else value for name, value in ours.items()}
    theirs = {
        "input_ids": ours["input_ids"],
        "attention_mask": ours["attention_mask"],
        "pixel_values": ours["pixel_values"][:, 0],
        "high_res_pixel_values": ours["high_res_pixel_values"],
    }
    return theirs, ours


@torch.no_grad()
def test_a_batch_of_text_and_images_equals_transformers(both: Any) -> None:
    theirs, ours = batches(both)
    mask = ours["attention_mask"].bool()
    expected = both[0](**theirs).logits[mask]
    assert (both[1](**ours).logits[mask] - expected).abs().max() <= TOLERANCE * expected.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("beams", [1, 3])
def test_answers_equal_transformers(both: Any, beams: int) -> None:
    theirs, ours = batches(both)
    options = {"max_new_tokens": 5, "min_new_tokens": 5, "num_beams": beams, "do_sample": False}
    expected = both[0].generate(**theirs, **options)
    assert both[1].generate(**ours, **options).tolist() == expected.tolist()


def test_export_gives_back_what_came_in(both: Any) -> None:
    theirs, _, _, folder = both
    export_checkpoint(folder / "ours", folder / "again", progress=False)
    again = DeepseekVLHybridForConditionalGeneration.from_pretrained(folder / "again").state_dict()
    assert all(torch.equal(again[name], value.to(again[name].dtype)) for name, value in theirs.state_dict().items())


@each(
    ("source", "message"),
    [
        ({"model_type": "deepseek_vl", "vision_config": {"model_type": "siglip_vision_model"}}, "hybrid alone can be"),
        ({"model_type": "deepseek_vl_v2"}, "DeepSeek-VL2 are"),
        ({"model_type": "multi_modality", "vision_config": {"cls": "CLIPVisionTower"}}, "'CLIPVisionTower'"),
    ],
)
def test_other_models_are_refused(source: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        deepseek_vl_settings(source)
