# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""transformers' own LLaVA-NeXT, imported: the same prompt, pixels and logits."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
)
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

from fila.conversion.import_checkpoint import import_checkpoint
from tests.conversion.parts import CLIP_SIZES, LLAMA_SIZES, byte_tokenizer
from tests.helpers import random_image, randomise

SIDE, PATCH = 28, 7
PINPOINTS = [[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]]
# Cut in every grid, a square, images that unpad rows and columns, one that unpads to no row of tokens.
SIZES = [(53, 97), (28, 28), (100, 30), (31, 90), (64, 64), (47, 200), (3, 300)]
# Largest difference of logits; worst measured: 0, at logits of up to 4.7.
TOLERANCE = 1e-4


def write_llava_next(folder: Path) -> tuple[LlavaNextForConditionalGeneration, LlavaNextProcessor]:
    """A tiny random checkpoint as transformers writes it, and its processor."""
    tokenizer = byte_tokenizer(["<image>"], None)
    tokenizer.pad_token = "<unk>"
    model = LlavaNextForConditionalGeneration(
        LlavaNextConfig(
            vision_config={"model_type": "clip_vision_model", **CLIP_SIZES},
            text_config={"model_type": "llama", "vocab_size": len(tokenizer), **LLAMA_SIZES},
            image_token_id=len(tokenizer) - 1,
            image_grid_pinpoints=PINPOINTS,
        )
    )
    randomise(model)
    model.eval().save_pretrained(folder)
    images = LlavaNextImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=PINPOINTS
    )
    processor = LlavaNextProcessor(
        images,
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        image_token="<image>",
        num_additional_image_tokens=1,
    )
    processor.save_pretrained(folder)
    return model, processor


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any, Any]:
    folder = tmp_path_factory.mktemp("llava-next")
    theirs = write_llava_next(folder / "theirs")
    import_checkpoint(folder / "theirs", folder / "ours", system="llava-next", progress=False)
    model = AutoModelForImageTextToText.from_pretrained(folder / "ours").eval()
    return *theirs, model, AutoProcessor.from_pretrained(folder / "ours")


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@torch.no_grad()
def test_logits_equal_transformers(both: Any, size: tuple[int, int]) -> None:
    their_model, their_processor, model, processor = both
    image, text = random_image(*size), "What is <image>this?"
    expected = their_processor(images=image, text=text, return_tensors="pt")
    inputs = processor(images=image, text=text, return_tensors="pt")
    assert inputs["input_ids"].tolist() == expected["input_ids"].tolist()
    torch.testing.assert_close(inputs["pixel_values"], expected["pixel_values"], rtol=0, atol=1e-5)
    difference = model(**inputs).logits - their_model(**expected).logits
    assert difference.abs().max() <= TOLERANCE


@torch.no_grad()
def test_a_batch_of_text_and_images_equals_transformers(both: Any) -> None:
    their_model, their_processor, model, processor = both
    texts = ["two <image> and <image>", "one <image>", "none at all"]
    images = [random_image(53, 97), random_image(64, 64, seed=1), random_image(100, 30, seed=2)]
    expected = their_processor(images=images, text=texts, return_tensors="pt", padding=True, padding_side="left")
    inputs = processor(images=images, text=texts, return_tensors="pt", padding=True)
    assert inputs["input_ids"].tolist() == expected["input_ids"].tolist()
    mask = inputs["attention_mask"].bool()
    difference = (model(**inputs).logits - their_model(**expected).logits)[mask]
    assert difference.abs().max() <= TOLERANCE
