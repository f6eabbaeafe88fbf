# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Every count that the command line tells is what the processor expands a prompt to."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fila.look.processed_image import look
from fila.look.view_settings import PLACEHOLDER, Eyes, open_eyes
from fila.processing.canvas import CANVASES
from fila.processing.layout import LAYOUTS
from tests.helpers import random_image, tiny_canvas

SIZES = [(53, 97), (28, 28), (7, 190)]
SETTINGS = ["--tile", "28", "--patch", "7"]


def eyes_of(canvas: str, layout: str) -> Eyes:
    return open_eyes(canvas=tiny_canvas(canvas), layout={"type": layout}, tile=28, patch=7)


def expanded(eyes: Eyes, size: tuple[int, int]) -> Any:
    """What the processor makes of a prompt that is an image."""
    return eyes.processor(text=[PLACEHOLDER], images=[[random_image(*size)]])


def placeholders(eyes: Eyes, size: tuple[int, int]) -> int:
    return int(expanded(eyes, size)["input_ids"][0].count(eyes.processor.image_token_id))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("canvas", CANVASES)
def test_plan_counts_what_the_processor_expands(fila: Callable[..., Any], canvas: str, layout: str) -> None:
    eyes = eyes_of(canvas, layout)
    options = ["--canvas", json.dumps(tiny_canvas(canvas)), "--layout", layout, *SETTINGS]
    result = fila("plan", *[f"{height}x{width}" for height, width in SIZES], *options)
    assert result.exit_code == 0, result.stderr
    counts = [int(line.split()[-1]) for line in result.stdout.splitlines()[1:]]
    expected = [placeholders(eyes, size) for size in SIZES]
    assert counts == [*expected, sum(expected)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("canvas", CANVASES)
def test_look_orders_the_tokens_as_the_processor_does(canvas: str, layout: str) -> None:
    eyes = eyes_of(canvas, layout)
    for size in SIZES:
        seen, made = look(eyes, random_image(*size)), expanded(eyes, size)
        index = made.get("image_token_index")
        expected = range(placeholders(eyes, size)) if index is None else index[0].tolist()
        assert seen.tokens == list(expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_view_tells_what_the_processor_expands(
    fila: Callable[..., Any], image: str, layout: str, tmp_path: Path
) -> None:
    options = ["--canvas", json.dumps(tiny_canvas("minicpm")), "--layout", layout, "-o", tmp_path / "view.png"]
    result = fila("view", image, *options, *SETTINGS)
    assert result.exit_code == 0, result.stderr
    told = re.fullmatch(r"\d+ x \d+ tiles, \d+ views, (\d+) image tokens\n", result.stderr)
    assert told is not None
    assert int(told[1]) == placeholders(eyes_of("minicpm", layout), (53, 97))


def test_plan_tells_the_plan_of_an_image_that_a_limit_shrinks(
    fila: Callable[..., Any], checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fila.look.view_settings.AutoProcessor.from_pretrained", _limited(50, "shrink_images"))
    row = fila("plan", "53x97", "--checkpoint", checkpoint).stdout.splitlines()[1].split()
    assert row[1:3] == ["53x97", "1x2"]
    assert row[-1] == "48"
    monkeypatch.setattr("fila.look.view_settings.AutoProcessor.from_pretrained", _limited(50, "error"))
    result = fila("plan", "28x28", "53x97", "--checkpoint", checkpoint)
    assert result.exit_code == 2
    assert result.stderr.startswith(
        "error: 53x97: Image 1 has 80 image tokens, and `max_image_tokens` is 50. Raise the limit"
    )


def _limited(most: int, policy: str) -> Callable[[str], Any]:
    from transformers import AutoProcessor

    load = AutoProcessor.from_pretrained

    def limited(folder: str) -> Any:
        processor = load(folder)
        processor.max_image_tokens, processor.image_token_policy = most, policy
        return processor

    return limited
