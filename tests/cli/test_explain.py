# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""`fila explain`: the answer, the parts in pixels and from 0 to 999, a picture; mistakes are one line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fila.look.boxes import from_999
from tests.cases import each


@each("method", ["attention", "gradient"])
def test_answer_parts_and_picture(checkpoint: str, image: str, tmp_path: Path, fila: Any, method: str) -> None:
    output = tmp_path / f"{method}.png"
    options = ("--checkpoint", checkpoint, "--answer", "ab", "--method", method, "--json")
    result = fila("explain", image, "What?", *options, "-o", output)
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["question"], told["answer"], told["method"]) == ("What?", "ab", method)
    assert (told["height"], told["width"]) == (53, 97)
    for part in told["boxes"]:
        left, top, right, bottom = part["pixels"]
        assert tuple(from_999(part["norm999"], (53, 97))) == (top, left, bottom, right)
    assert np.asarray(Image.open(output)).std() > 10
    assert result.stderr.rstrip().endswith(str(output))


def test_own_answer_goes_to_standard_output(checkpoint: str, image: str, tmp_path: Path, fila: Any) -> None:
    options = ("--checkpoint", checkpoint, "--max-new-tokens", "2")
    asked = fila("ask", checkpoint, image, "What?", "--max-new-tokens", "2")
    result = fila("explain", image, "What?", *options, "-o", tmp_path / "map.png")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() == asked.stdout.strip()


@each(
    ("words", "told"),
    [
        (("--method", "lime"), "`--method` must be one of ['attention', 'gradient']; got 'lime'."),
        (("--checkpoint", "./nowhere"), "'./nowhere' is neither a folder nor a Hub id"),
        (("--answer", ""), "The answer must have a token"),
    ],
)
def test_mistakes_are_one_line(
    checkpoint: str, image: str, tmp_path: Path, fila: Any, words: tuple[str, str], told: str
) -> None:
    output = tmp_path / "map.png"
    chosen = ("--checkpoint", checkpoint) if words[0] != "--checkpoint" else ()
    result = fila("explain", image, "What?", *chosen, *words, "-o", output)
    assert result.exit_code == 2
    assert told in result.stderr.splitlines()[-1]
    assert not output.exists()


def test_what_is_no_image_is_refused(checkpoint: str, image: str, broken: dict[str, str], fila: Any) -> None:
    for source, told in (("clip.mp4", "is a video"), (broken["text"], "text.png"), (broken["missing"], "missing.png")):
        result = fila("explain", source, "What?", "--checkpoint", checkpoint, "-o", f"{image}-map.png")
        assert result.exit_code == 2
        assert told in result.stderr.splitlines()[-1]
    before = Path(image).read_bytes()
    assert fila("explain", image, "What?", "--checkpoint", checkpoint, "-o", image).exit_code == 2
    assert Path(image).read_bytes() == before
