# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The project's own small model, with random weights: FILA's architecture at a size that a CPU can train.

Both towers, four taps, 2 x 2 tiles and an overview, all small: tiles of 32 pixels in place of 336 and patches of 4 in
place of 14, hence 8 x 8 patches per tile. The high-res canvas is 4 times the tile canvas (256 pixels for 2 x 2 tiles),
where FILA has 32/14: the ratio decides how much more the high-res tower can read. A token stands for 16 x 16 pixels of
the high-res canvas, one to three letters of small print; a small language model learns to copy from such tokens, and
does not from tokens that hold more. The ConvNeXt's stem has a stride of 2 pixels in place of 4, about the stroke of
such a letter; its fourth stage then has the patch grid, as FILA's does.

Text is spelled: one token per printable ASCII character. So no word is unknown, and a random string is no harder than
a word.
"""

import string
from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models
from transformers import AddedToken, PreTrainedTokenizerFast

from fila.modeling.configuration_fila import FilaConfig
from fila.modeling.modeling_fila import FilaForConditionalGeneration
from fila.processing.chat_template import DEFAULT_CHAT_TEMPLATE
from fila.processing.image_processing_fila import FilaImageProcessorPil
from fila.processing.processing_fila import FilaProcessor

TILE, PATCH, HIGH_RES_TILE = 32, 4, 128
HIGH_RES_DEPTHS = (1, 2, 3, 2)
# How the two towers are joined, by name: the flagship, joined at the end, and no high-res tower. MLPs as wide as the
# low-res tower, 192 channels, hold back the flagship (docs/default_model.md).
FUSIONS: dict[str, dict[str, Any]] = {
    "cvfm": {"type": "cvfm", "taps": [1, 2, 3, 4], "stages": [1, 2, 3, 4], "hidden_size": 768},
    "channel_concat": {"type": "channel_concat"},
    "none": {"type": "none"},
}
_SPECIAL = ("<pad>", "<unk>", "<|im_start|>", "<|im_end|>", "<image>")
# What the chat template and the questions repeat is one token each, which makes conversations short.
_PHRASES = ("user\n", "assistant\n", "What is the ")


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer with one token per printable ASCII character; other characters are `<unk>`."""
    characters = [*string.digits, *string.ascii_letters, *string.punctuation, " ", "\n"]
    vocabulary = {token: number for number, token in enumerate([*_SPECIAL, *characters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_tokens([AddedToken(phrase, normalized=False) for phrase in _PHRASES])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>", "<image>"],
        clean_up_tokenization_spaces=False,
    )


def make_processor(fusion: str = "cvfm") -> FilaProcessor:
    """Make the processor for the model of a fusion, without a high-res canvas if there is no high-res tower."""
    image_processor = FilaImageProcessorPil(
        size={"height": TILE, "width": TILE},
        high_res_size=None if fusion == "none" else {"height": HIGH_RES_TILE, "width": HIGH_RES_TILE},
    )
    return FilaProcessor(
        image_processor,
        make_tokenizer(),
        chat_template=DEFAULT_CHAT_TEMPLATE,
        tokens_per_tile=(TILE // PATCH) ** 2,
    )


def make_model(
    processor: FilaProcessor,
    fusion: str = "cvfm",
    *,
    seed: int = 0,
    high_res_depths: Sequence[int] = HIGH_RES_DEPTHS,
) -> FilaForConditionalGeneration:
    """Make the model with random weights.

    Args:
        processor: Of `make_processor`.
        fusion: A name in `FUSIONS`.
        seed: Of the weights.
        high_res_depths: Blocks of each stage of the high-res tower.

    Returns:
        The model, in float32.

    Raises:
        ValueError: If there is no such fusion.
    """
    if fusion not in FUSIONS:
        raise ValueError(f"The fusion of the default model must be one of {sorted(FUSIONS)}; got {fusion!r}.")
    tokenizer: Any = processor.tokenizer
    has_high_res = fusion != "none"
    config = FilaConfig(
        vision_config={
            "model_type": "clip_vision_model",
            "hidden_size": 192,
            "intermediate_size": 384,
            "num_hidden_layers": 4,
            "num_attention_heads": 6,
            "image_size": TILE,
            "patch_size": PATCH,
            "hidden_act": "gelu",
        },
        high_res_vision_config={
            "model_type": "convnext",
            "patch_size": 2,
            "hidden_sizes": [32, 64, 128, 256],
            "depths": list(high_res_depths),
            "layer_scale_init_value": 0.0,  # the usual 1e-6 starts every block at nothing
        }
        if has_high_res
        else None,
        text_config={
            "model_type": "llama",
            "hidden_size": 192,
            "intermediate_size": 512,
            "num_hidden_layers": 5,
            "num_attention_heads": 6,
            "num_key_value_heads": 6,
            "vocab_size": -(-len(tokenizer) // 8) * 8,
            "max_position_embeddings": 4096,
            "tie_word_embeddings": True,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.convert_tokens_to_ids("<|im_start|>"),
            "eos_token_id": tokenizer.eos_token_id,
        },
        fusion=dict(FUSIONS[fusion]),
        vision_feature_layer=-1,
        high_res_tile_size=HIGH_RES_TILE if has_high_res else None,
        image_token_id=processor.image_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = FilaForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model
