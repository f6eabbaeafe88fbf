# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Samples with images of different tile counts, and arguments for tiny runs."""

from pathlib import Path
from typing import Any

from PIL import Image

from fila.training.arguments import FilaTrainingArguments
from tests.helpers import random_image

SIZES = ((20, 50), (50, 20), (40, 41), (90, 91), (13, 17), (31, 97), (28, 28), (67, 30))


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def make_sample(number: int, *, size: tuple[int, int] | None = None, answer: str | None = None) -> dict[str, Any]:
    """One image, one question, an answer that no other sample has."""
    image = random_image(*(size or SIZES[number % len(SIZES)]), seed=number)
    return conversation([image], "Which?", answer or "abcdefghijklmnop"[number % 16] * (number % 3 + 2))


def conversation(images: list[Any], question: str, answer: str) -> dict[str, Any]:
    content = [{"type": "image"} for _ in images] + [text(question)]
    return {
        "images": images,
        "messages": [{"role": "user", "content": content}, {"role": "assistant", "content": [text(answer)]}],
    }


def make_samples(count: int) -> list[dict[str, Any]]:
    return [make_sample(number) for number in range(count)]


def arguments(folder: Path, **changes: Any) -> FilaTrainingArguments:
    """Arguments of a short, silent run."""
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": 3,
        "per_device_train_batch_size": 2,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    return FilaTrainingArguments(**(settings | changes))


def losses(trainer: Any) -> list[float]:
    """Logged training losses, in order."""
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def write_json_lines(folder: Path, samples: list[dict[str, Any]]) -> Path:
    """Write images and a JSON-lines file; return its path."""
    import json

    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, sample in enumerate(samples):
        names = []
        for index, image in enumerate(sample.get("images") or []):
            assert isinstance(image, Image.Image)
            names.append(f"{number}_{index}.png")
            image.save(folder / names[-1])
        lines.append(json.dumps({**sample, "images": names}))
    path = folder / "data.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
