# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The shipped model answers a batch as it answers one by one, the way users type it."""

from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, pipeline

LIMITS = {"max_new_tokens": 12, "do_sample": False}


def ask(text: str, *images: Image.Image) -> list[dict[str, Any]]:
    parts = [*({"type": "image", "image": image} for image in images), {"type": "text", "text": text}]
    return [{"role": "user", "content": parts}]


@pytest.fixture(scope="module")
def shipped() -> Iterator[Path]:
    with as_file(files("fila") / "assets") as assets:
        yield assets


@pytest.fixture(scope="module")
def chats(shipped: Path) -> list[Any]:
    """Two questions of different length about one page, another canvas, text alone, and two images."""
    page = Image.open(shipped / "demo_pages" / "images" / "00500002.jpg")
    strip = page.resize((900, 200))
    return [
        ask("What is the title of the page?", page),
        ask("Total?", page),
        ask("What is the date?", strip),
        ask("Who are you?"),
        ask("Compare both.", page, strip),
    ]


@pytest.fixture(scope="module")
def model(shipped: Path) -> Any:
    return AutoModelForImageTextToText.from_pretrained(shipped / "default_model", dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def processor(shipped: Path) -> Any:
    return AutoProcessor.from_pretrained(shipped / "default_model")


def answers(model: Any, processor: Any, chats: list[Any]) -> list[str]:
    inputs = processor.apply_chat_template(
        chats, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt", padding=True
    )
    ids = model.generate(**inputs, **LIMITS)[:, inputs["input_ids"].shape[1] :]
    found: list[str] = processor.batch_decode(ids, skip_special_tokens=True)
    return found


@pytest.fixture(scope="module")
def alone(model: Any, processor: Any, chats: list[Any]) -> list[str]:
    return [answer for chat in chats for answer in answers(model, processor, [chat])]


def test_batch_is_answered_as_one_by_one(model: Any, processor: Any, chats: list[Any], alone: list[str]) -> None:
    assert all(alone)
    assert answers(model, processor, chats) == alone


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_pipeline_answers_as_one_by_one(
    model: Any, processor: Any, chats: list[Any], alone: list[str], batch_size: int
) -> None:
    pipe = pipeline("image-text-to-text", model=model, processor=processor, batch_size=batch_size)
    found = pipe(text=chats, return_full_text=False, generate_kwargs=LIMITS)
    assert [answer["generated_text"] for (answer,) in found] == alone
