# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Checkpoints that commit aec78d7 saved open unchanged and answer alike, see `tests/old_checkpoints/README.md`."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from tests.helpers import assert_close

FOLDER = Path(__file__).parents[1] / "old_checkpoints"
IMAGE_TOKENS = {"internvl": "<|im_start|>", "minicpm": "<|im_start|>"}  # whose layouts have `<image>` as text


def drawing(height: int, width: int) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([(3 * x + y) % 256, (x * y) % 251, (5 * y) % 241], -1).astype(np.uint8))


@pytest.mark.parametrize("name", ["eagle", "fila", "internvl", "llava_next", "mini_gemini", "minicpm", "uhd", "video"])
def test_old_checkpoint_answers_as_it_did(name: str, tmp_path: Path) -> None:
    expected = load_file(FOLDER / name / "expected.safetensors")
    model = AutoModelForImageTextToText.from_pretrained(FOLDER / name, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(FOLDER / name)
    if name == "video":
        frames = np.stack([np.asarray(drawing(30, 40)) + index for index in range(6)])
        inputs = processor(text="a <video> b", videos=[frames], return_tensors="pt")
    else:
        token = IMAGE_TOKENS.get(name, "<image>")
        images = [drawing(61, 90), drawing(40, 33)]
        inputs = processor(text=f"a {token} b {token} c", images=images, return_tensors="pt")
    assert inputs["input_ids"].tolist() == expected["input_ids"].tolist()
    for key in expected.keys() - {"input_ids", "logits"}:
        total = inputs[key.removesuffix("_sum")].double().sum()
        torch.testing.assert_close(total, expected[key], rtol=1e-6, atol=1e-3)
    with torch.no_grad():
        assert_close(model(**inputs).logits[:, -1], expected["logits"])
        model.save_pretrained(tmp_path)
        processor.save_pretrained(tmp_path)
        again = AutoModelForImageTextToText.from_pretrained(tmp_path)
        assert_close(again(**inputs).logits[:, -1], expected["logits"])
