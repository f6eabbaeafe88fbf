# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Ask a checkpoint about images with transformers' own classes.

python examples/infer.py CHECKPOINT IMAGE... QUESTION
"""

import sys

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

import fila  # noqa: F401  (registers the classes with transformers)


def answer(checkpoint: str, images: list[str], question: str, *, max_new_tokens: int = 64) -> str:
    """Load a checkpoint and answer one question; each image is a path, a URL or a PIL image."""
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype="auto")
    processor = AutoProcessor.from_pretrained(checkpoint)
    content = [{"type": "image", "image": image} for image in images] + [{"type": "text", "text": question}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    with torch.inference_mode():
        tokens = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
    text: str = processor.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return text


if __name__ == "__main__":
    sys.stdout.write(answer(sys.argv[1], sys.argv[2:-1], sys.argv[-1]) + "\n")
