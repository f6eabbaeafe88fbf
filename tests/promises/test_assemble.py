# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""docs/assemble.md: from any CLIP, ConvNeXt and causal language model, each a folder."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from fila.cli import app
from tests.conversion.parts import write_clip, write_convnext, write_text
from tests.conversion.test_gguf_text import write_gguf
from tests.helpers import random_image
from tests.promises.shipped import answers, blocks, chat, load, prepare

SOURCES = {
    "path/to/clip-vit-l-14-336": "clip",
    "path/to/convnext-large": "convnext",
    "path/to/llama-3-8b-instruct": "text",
}


def run(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), prog_name="fila", catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def typed(folder: Path, text: str = "text") -> list[list[str]]:
    """Return the two command lines of the page with tiny parts in place of the paths."""
    block = next(block for block in blocks("docs/assemble.md", "console") if "fila assemble" in block)
    for name, part in SOURCES.items():
        block = block.replace(name, str(folder / (text if part == "text" else part)))
    return [line.split()[1:] for line in block.replace("\\\n", " ").splitlines()]


@pytest.mark.parametrize("convnext", ["ConvNextModel", "ConvNextV2Model", "timm", "open_clip"])
def test_parts_become_a_checkpoint_that_verifies(
    convnext: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clip(tmp_path / "clip")
    write_convnext(tmp_path / "convnext", convnext)
    write_text(tmp_path / "text")
    monkeypatch.chdir(tmp_path)
    assemble, verify = typed(tmp_path)
    run(*assemble)
    run(
        *verify, *([] if convnext in ("ConvNextModel", "ConvNextV2Model") else ["--no-forward"])
    )  # one per model class
    model, processor = load("my-checkpoint")
    inputs = prepare(processor, chat("What is this?", random_image(53, 97)))
    assert len(answers(model, processor, inputs, max_new_tokens=3)) == 1
    assert "UNTRAINED" in Path("my-checkpoint/README.md").read_text(encoding="utf-8")


def test_language_model_may_be_a_gguf_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(tmp_path / "clip")
    write_convnext(tmp_path / "convnext")
    (tmp_path / "gguf").mkdir()
    write_gguf(tmp_path / "gguf" / "model.gguf")
    monkeypatch.chdir(tmp_path)
    run(*typed(tmp_path, "gguf")[0])
    assert load("my-checkpoint")[0].config.text_config.model_type == "llama"
