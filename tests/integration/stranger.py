# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Answers about two pictures with a checkpoint, knowing nothing of fila: what a user of the checkpoint does.

The tests call `answer` in their own process, where `fila` is imported, and run this file in a process where it is not:

    python stranger.py CHECKPOINT OUTPUT.json
"""

import importlib.util
import json
import sys
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoProcessor, pipeline
from transformers.models.auto.image_processing_auto import AutoImageProcessor


def conversation() -> list[dict[str, Any]]:
    """A turn with two pictures whose canvases differ."""
    noise = np.random.default_rng(0)
    pictures = [Image.fromarray(noise.integers(0, 256, size, dtype=np.uint8)) for size in ((31, 83, 3), (57, 29, 3))]
    content = [{"type": "image", "image": picture} for picture in pictures]
    return [{"role": "user", "content": [*content, {"type": "text", "text": "What is different?"}]}]


def answer(checkpoint: str, **options: Any) -> dict[str, Any]:
    """Load the checkpoint in every way that the Auto classes offer, and answer.

    Args:
        checkpoint: A folder.
        options: For every `from_pretrained`, for instance `trust_remote_code=True`.

    Returns:
        Logits of the last positions, generated ids, a text and logits by way of the pipeline, names of the classes.
    """
    processor = AutoProcessor.from_pretrained(checkpoint, **options)
    image_processor = AutoImageProcessor.from_pretrained(checkpoint, **options)
    config = AutoConfig.from_pretrained(checkpoint, **options)
    base = AutoModel.from_pretrained(checkpoint, **options)
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, **options).eval()
    inputs = processor.apply_chat_template(
        conversation(),
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    pipe = pipeline("image-text-to-text", model=checkpoint, **options)
    text = pipe(text=conversation(), max_new_tokens=5, return_full_text=False, generate_kwargs={"do_sample": False})
    with torch.inference_mode():
        logits = model(**inputs).logits[0, -7:]
        piped = pipe.model(**inputs).logits[0, -7:]
        generated = model.generate(**inputs, max_new_tokens=5, do_sample=False)
    parts = (config, processor, processor.image_processor, image_processor, base, model, pipe.model)
    return {
        "logits": logits.tolist(),
        "generated": generated[0, inputs["input_ids"].shape[1] :].tolist(),
        "pipeline logits": piped.tolist(),
        "pipeline text": text[0]["generated_text"],
        "classes": [f"{type(part).__module__}.{type(part).__name__}" for part in parts],
        "fila is importable": importlib.util.find_spec("fila") is not None,
    }


if __name__ == "__main__":
    with open(sys.argv[2], "w", encoding="utf-8") as output:
        json.dump(answer(sys.argv[1], trust_remote_code=True), output)
