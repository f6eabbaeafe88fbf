# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The characters that the image tokens are asked for lie in the tokens' own patches."""

from typing import Any

import torch
from PIL import Image

from fila.processing.processing_fila import FilaProcessor
from fila.training.page_sheet import Glyph
from projects.default_model.telling import TellingCollator, patch_characters
from tests.promises.shipped import MODEL

CLASSES = {character: number for number, character in enumerate("abcß", start=1)}


def test_characters_stand_in_the_order_of_the_image_tokens() -> None:
    processor = FilaProcessor.from_pretrained(MODEL)
    plan = processor.image_processor.plan(256, 256)  # 2 x 2 tiles of 8 x 8 patches, each of 16 pixels, and an overview
    glyphs = [Glyph("b", 8.0, 8.0), Glyph("ß", 8.0, 12.5), Glyph("c", 250.0, 250.0), Glyph("?", 100.0, 100.0)]
    told = patch_characters(glyphs, (256, 256), plan, (8, 8), CLASSES)
    assert told.shape == (5 * 64, 4)
    assert (told[:64] == -100).all()  # the overview
    assert told[64].tolist() == [2, 4, 0, 0]
    assert told[-1].tolist() == [3, 0, 0, 0]
    assert int((told[64:] > 0).sum()) == 3


def test_collator_adds_the_characters_of_its_samples() -> None:
    processor = FilaProcessor.from_pretrained(MODEL)
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is the Total?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "12"}]},
    ]
    sample = {"images": [Image.new("RGB", (256, 256))], "messages": messages, "glyphs": [Glyph("a", 8.0, 8.0)]}
    batch = TellingCollator(processor, class_of=CLASSES)([sample, sample])
    assert batch["characters"].shape == (2 * 320, 4)
    assert torch.equal(batch["characters"][:320], batch["characters"][320:])
    assert "labels" in batch
