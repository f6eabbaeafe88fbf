# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The examples run, at tiny size, and say what the command says."""

import runpy
from pathlib import Path

import pytest

from fila.cli.ask import ask, load_checkpoint, open_images

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_infer_answers_like_the_command(checkpoint: str, image: str, capsys: pytest.CaptureFixture[str]) -> None:
    example = runpy.run_path(str(EXAMPLES / "infer.py"))
    text = example["answer"](checkpoint, [image, image], "What is this?", max_new_tokens=5)
    model, processor = load_checkpoint(checkpoint, device="cpu")
    images = open_images([image, image])
    assert text == ask(model, processor, images, "What is this?", max_new_tokens=5).text
