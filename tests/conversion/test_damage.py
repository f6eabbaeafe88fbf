# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from fila.conversion.damage import naming_damage


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    save_file({"a": torch.zeros(9)}, tmp_path / "model.safetensors")
    Tokenizer(WordLevel({"?": 0}, unk_token="?")).save(str(tmp_path / "tokenizer.json"))
    return tmp_path


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut weights": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-1]),
        r"model\.safetensors is not a safetensors file or is truncated",
    ),
    "a header that is a list": (
        lambda f: (f / "model.safetensors").write_bytes(b"\2" + bytes(7) + b"[]"),
        r"model\.safetensors is not a safetensors file or is truncated",
    ),
    "an absent shard": (
        lambda f: (
            (f / "model.safetensors").rename(f / "model.safetensors.index.json")
            and (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "b.safetensors"}}')
        ),
        r"model\.safetensors\.index\.json names 'b\.safetensors', which is missing",
    ),
    "cut config": (lambda f: (f / "config.json").write_text('{"a'), r"config\.json is not JSON: "),
    "config that is a list": (lambda f: (f / "config.json").write_text("[]"), r"config\.json must hold a JSON object"),
    "tokenizer of nothing": (lambda f: (f / "tokenizer.json").write_text("{}"), r"tokenizer\.json is no tokenizer: "),
}


def _fail(folder: Path, error: Exception) -> None:
    with naming_damage(folder):
        raise error


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_damaged_file_is_named(damage: str, folder: Path) -> None:
    spoil, message = DAMAGE[damage]
    spoil(folder)
    with pytest.raises(ValueError, match=rf" is damaged: {message}"):
        _fail(folder, KeyError("metadata"))


def test_where_no_file_is_damaged_the_error_is_typed(folder: Path) -> None:
    with pytest.raises(ValueError, match=r" cannot be opened \(KeyError: 'metadata'\)\."):
        _fail(folder, KeyError("metadata"))
    with pytest.raises(OSError, match="no network"):
        _fail(folder, OSError("no network"))
    with naming_damage(folder):  # nothing is looked at where nothing fails
        (folder / "config.json").unlink()
