# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""A tiny checkpoint on disk, images, and a way to run commands."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from fila.cli import app
from fila.processing.chat_template import DEFAULT_CHAT_TEMPLATE
from tests.cli.tiny_parts import write_tiny_parts
from tests.helpers import random_image, tiny_model, tiny_processor


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    tiny_model().save_pretrained(folder)
    processor = tiny_processor()
    processor.chat_template = DEFAULT_CHAT_TEMPLATE
    processor.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of a tiny low-res tower and a tiny language model."""
    return write_tiny_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture
def image(tmp_path: Path) -> str:
    path = tmp_path / "noise.png"
    random_image(53, 97).save(path)
    return str(path)


@pytest.fixture
def blank(tmp_path: Path) -> str:
    path = tmp_path / "blank.png"
    Image.new("RGB", (97, 53), "white").save(path)
    return str(path)


@pytest.fixture
def broken(tmp_path: Path, image: str) -> dict[str, str]:
    """Files that are no images, by what is wrong with them."""
    whole = Path(image).read_bytes()
    contents = {"zero": b"", "truncated": whole[: len(whole) // 2], "text": b"dear sirs\n"}
    paths = {name: tmp_path / f"{name}.png" for name in contents}
    for name, data in contents.items():
        paths[name].write_bytes(data)
    return {name: str(path) for name, path in paths.items()} | {"missing": str(tmp_path / "missing.png")}


@pytest.fixture
def fila() -> Callable[..., Any]:
    """Run `fila` with arguments; the result has `exit_code`, `stdout` and `stderr`."""
    runner = CliRunner()
    return lambda *args: runner.invoke(app, [str(arg) for arg in args], prog_name="fila")
