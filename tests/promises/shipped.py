# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The shipped model, the pages that come with it, and the questions whose answers are known."""

import json
import re
from pathlib import Path
from typing import Any

from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

import fila

ROOT = Path(__file__).parents[2]
MODEL = Path(fila.__file__).parent / "assets" / "default_model"
PAGES = Path(fila.__file__).parent / "assets" / "demo_pages" / "pages.jsonl"


def rows() -> list[dict[str, Any]]:
    """Return the bundled pages with their questions and answers, in file-name order."""
    return [json.loads(line) for line in PAGES.read_text(encoding="utf-8").splitlines()]


def page(number: int) -> Image.Image:
    """Open a bundled page."""
    with Image.open(PAGES.parent / rows()[number]["images"][0]) as opened:
        return opened.convert("RGB")


def asked() -> list[tuple[int, str, str]]:
    """Return (page, question, answer) of every field of the bundled pages."""
    return [
        (number, field["question"], field["answer"]) for number, row in enumerate(rows()) for field in row["fields"]
    ]


def load(path: str = str(MODEL), **options: Any) -> tuple[Any, Any]:
    """Load model and processor with the two calls that the README shows."""
    model = AutoModelForImageTextToText.from_pretrained(path, **options)
    return model, AutoProcessor.from_pretrained(path)


def chat(question: str, *images: Any) -> list[dict[str, Any]]:
    """Return a conversation of one turn: the images, then the question."""
    content = [{"type": "image", "image": image} for image in images]
    return [{"role": "user", "content": [*content, {"type": "text", "text": question}]}]


def prepare(processor: Any, conversations: list[Any], **options: Any) -> Any:
    """Tokenize conversations with the call that the README shows."""
    return processor.apply_chat_template(
        conversations, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt", **options
    )


def answers(model: Any, processor: Any, inputs: Any, **options: Any) -> list[str]:
    """Generate and decode what follows the prompt."""
    ids = model.generate(**inputs, **({"max_new_tokens": 20} | options))[:, inputs["input_ids"].shape[1] :]
    return [text.strip() for text in processor.batch_decode(ids, skip_special_tokens=True)]


def blocks(page: str, language: str = "python") -> list[str]:
    """Return the code blocks of a page of the documentation."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
