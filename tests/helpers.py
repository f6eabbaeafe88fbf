# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Tiny models, processors and inputs for every test.

Sizes are distinct and odd where they can be, so that no wrong axis fits: tiles of 28 pixels with patches of 7 (16
image tokens per view), 128 high-res pixels per tile (4 cells of the last ConvNeXt stage per side).
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fila import FilaConfig, FilaForConditionalGeneration, FilaImageProcessorPil, FilaProcessor
from fila.processing.chat_template import DEFAULT_CHAT_TEMPLATE

TILE = 28
PATCH = 7
HIGH_RES_TILE = 128
TOKENS_PER_TILE = 16
SPECIALS = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<image>"]


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes as tokens, with ChatML's control tokens and `<image>`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(SPECIALS + alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="<|im_end|>",
        extra_special_tokens={"image_token": "<image>", "im_start": "<|im_start|>"},
        model_max_length=100_000,
    )


def tiny_config(**changes: Any) -> FilaConfig:
    """A FILA config that runs in milliseconds; `changes` replace whole settings."""
    settings: dict[str, Any] = {
        "vision_config": {
            "model_type": "clip_vision_model",
            "hidden_size": 20,
            "intermediate_size": 37,
            "num_hidden_layers": 5,
            "num_attention_heads": 4,
            "image_size": TILE,
            "patch_size": 7,
        },
        "high_res_vision_config": {"model_type": "convnext", "hidden_sizes": [5, 7, 11, 13], "depths": [1, 1, 2, 1]},
        "text_config": {
            "model_type": "llama",
            "hidden_size": 24,
            "intermediate_size": 31,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": len(SPECIALS) + 256,
            "max_position_embeddings": 1024,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 4,
        },
        "fusion": {"type": "cvfm", "taps": [1, 2, 3, 4]},
        "image_token_id": SPECIALS.index("<image>"),
    }
    return FilaConfig(**(settings | changes))


def single_tower(**changes: Any) -> dict[str, Any]:
    """Settings of a model without high-res tower, for `tiny_config`."""
    return {"high_res_vision_config": None, "fusion": {"type": "none"}} | changes


def randomise(model: torch.nn.Module, std: float = 0.2, seed: int = 0) -> None:
    """Replace every weight by a seeded random one, so that no path is silent because its weights start at zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_norm_weight = parameter.ndim == 1 and name.endswith("weight")
            parameter.copy_(1 + std * noise if is_norm_weight else std * noise)


def tiny_model(seed: int = 0, **changes: Any) -> FilaForConditionalGeneration:
    """A seeded model of `tiny_config(**changes)`, in eval mode, with every weight random."""
    model = FilaForConditionalGeneration(tiny_config(**changes)).eval()
    randomise(model, seed=seed)
    return model


def tiny_image_processor(**changes: Any) -> FilaImageProcessorPil:
    """The image processor that fits `tiny_config`."""
    settings: dict[str, Any] = {
        "size": {"height": TILE, "width": TILE},
        "high_res_size": {"height": HIGH_RES_TILE, "width": HIGH_RES_TILE},
        "canvas": {"type": "fila"},
    }
    return FilaImageProcessorPil(**(settings | changes))


# Options that make a canvas fit the tiny towers; a strategy whose views differ needs a line.
TINY_CANVASES: dict[str, dict[str, Any]] = {
    "deepseek_ocr": {"patch_size": PATCH, "multiple": 1, "overview_size": 6 * PATCH},
    "long_edge_tiers": {"tiers": [[100, 50], [40, 30]]},
    "minicpm": {"patch_size": PATCH},
    "native": {"patch_size": PATCH, "max_patches": 60},
    "redrawn_square": {"side": 64, "least": 24},
    "square_pad": {"grid": 2, "overview": True},
    "uhd": {"patch_size": PATCH},
}


def tiny_canvas(name: str) -> dict[str, Any]:
    """The options dict of a canvas strategy that fits the tiny towers."""
    return {"type": name, **TINY_CANVASES.get(name, {})}


def has_equal_views(canvas: dict[str, Any]) -> bool:
    """Whether all views of a strategy have the tile's size; only then there may be a high-res canvas."""
    return tiny_image_processor(canvas=canvas, high_res_size=None).plans().equal_views


def tiny_canvas_processor(canvas: dict[str, Any], **settings: Any) -> FilaProcessor:
    """The processor of a canvas strategy for a model with one token per patch."""
    equal_views = has_equal_views(canvas)
    images = tiny_image_processor(canvas=canvas, **({} if equal_views else {"high_res_size": None}))
    if not equal_views:
        settings = {"token_size": PATCH, **settings}
    return FilaProcessor(images, tiny_tokenizer(), tokens_per_tile=TOKENS_PER_TILE, **settings)


def tiny_processor(**changes: Any) -> FilaProcessor:
    """The processor that fits `tiny_config`; `changes` go to the image processor."""
    return FilaProcessor(
        tiny_image_processor(**changes),
        tiny_tokenizer(),
        chat_template=DEFAULT_CHAT_TEMPLATE,
        tokens_per_tile=TOKENS_PER_TILE,
    )


def save_smallest(folder: Path) -> tuple[FilaForConditionalGeneration, FilaProcessor]:
    """Save a model of one layer, one stage and one tap, for what takes its time per operation; and its processor."""
    whole = tiny_config()
    model = tiny_model(
        vision_config=whole.vision_config.to_dict() | {"num_hidden_layers": 1},
        vision_feature_layer=-1,
        high_res_vision_config={"model_type": "convnext", "hidden_sizes": [5], "depths": [1]},
        fusion={"type": "cvfm", "taps": [1], "stages": [1], "align": "pool"},
        text_config=whole.text_config.to_dict() | {"num_hidden_layers": 1},
    )
    processor = tiny_processor(high_res_size={"height": 16, "width": 16})
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model, processor


def random_image(height: int, width: int, seed: int = 0) -> Image.Image:
    """A seeded RGB image of smooth noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


# How far two runs of one computation may lie apart, as a share of its largest value: another CPU, shape or address of
# the same numbers takes another kernel, which adds them up in another order. Measured with every operation off by a
# unit in the last place (`make test-rounding`): 3.6e-6 for logits in float32, 5e-15 for clips in float64.
ROUNDING = {torch.float64: 1e-12, torch.float32: 2e-5}


def assert_close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float | None = None) -> None:
    """Assert equal shape and largest absolute difference at most `tolerance`, which the message gives.

    Without a tolerance both must be one computation done twice: of one dtype, and equal but for rounding.
    """
    assert actual.shape == expected.shape, f"shapes differ: {tuple(actual.shape)} and {tuple(expected.shape)}"
    if tolerance is None:
        assert actual.dtype == expected.dtype, f"dtypes differ: {actual.dtype} and {expected.dtype}"
        tolerance = ROUNDING[actual.dtype] * (expected.abs().max().item() if expected.numel() else 0.0)
    worst = (actual.double() - expected.double()).abs().max().item() if actual.numel() else 0.0
    assert worst <= tolerance < torch.inf, f"largest difference {worst:.3e} exceeds {tolerance:.3e}"
