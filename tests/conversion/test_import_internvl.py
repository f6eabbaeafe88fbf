# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""transformers' own InternVL, imported: the same logits for image and text."""

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
)

from fila.conversion.import_checkpoint import import_checkpoint
from tests.conversion.originals import VIT
from tests.conversion.parts import LLAMA_SIZES, byte_tokenizer
from tests.helpers import random_image, randomise

# One tile, two by three with a thumbnail, a strip.
SIZES = [(28, 28), (53, 97), (100, 30), (31, 190)]
# Largest difference of logits; worst measured: 0, at logits of up to 3.9.
TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=["layer_norm", "rms_norm"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    folder = tmp_path_factory.mktemp("internvl")
    tokenizer = byte_tokenizer(["<img>", "</img>", "<IMG_CONTEXT>"], None)
    is_large = request.param == "rms_norm"  # InternViT-6B norms its queries and keys, and has no biases there
    vision = {"model_type": "internvl_vision", **VIT, "norm_type": request.param, "use_qk_norm": is_large}
    theirs = InternVLForConditionalGeneration(
        InternVLConfig(
            vision_config=vision | {"attention_bias": not is_large},
            text_config={"model_type": "qwen2", "vocab_size": len(tokenizer), **LLAMA_SIZES},
            image_token_id=len(tokenizer) - 1,
            tie_word_embeddings=is_large,
        )
    )
    randomise(theirs)
    theirs.eval().save_pretrained(folder / "theirs")
    tokenizer.save_pretrained(folder / "theirs")
    import_checkpoint(folder / "theirs", folder / "ours", system="internvl", progress=False)
    model = AutoModelForImageTextToText.from_pretrained(folder / "ours").eval()
    return theirs, model, AutoProcessor.from_pretrained(folder / "ours")


def tiles(inputs: Any) -> torch.Tensor:
    """The source's order of the views: the thumbnail last."""
    views = inputs["pixel_values"][0]
    return torch.cat([views[1:], views[:1]]) if len(views) > 1 else views


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@torch.no_grad()
def test_logits_equal_transformers(both: Any, size: tuple[int, int]) -> None:
    theirs, model, processor = both
    inputs = processor(images=random_image(*size), text="What is <IMG_CONTEXT>?", return_tensors="pt")
    assert processor.decode(inputs["input_ids"][0]).count("<img>") == 1
    expected = theirs(input_ids=inputs["input_ids"], pixel_values=tiles(inputs)).logits
    assert (model(**inputs).logits - expected).abs().max() <= TOLERANCE


@torch.no_grad()
def test_text_alone_equals_transformers(both: Any) -> None:
    theirs, model, processor = both
    inputs = processor(text="no image at all", return_tensors="pt")
    assert (model(**inputs).logits - theirs(**inputs).logits).abs().max() <= TOLERANCE
