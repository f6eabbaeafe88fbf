# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""What leaves this machine: a pushed or saved checkpoint answers alike where `fila` is not installed."""

from pathlib import Path

import pytest

from tests.integration import stranger
from tests.integration.test_remote_code import assert_same_answers, catch_uploads, without_fila
from tests.promises.shipped import load


def test_pushed_model_answers_alike_without_fila(
    python_without_fila: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = catch_uploads(tmp_path / "hub", monkeypatch)
    for part in load(dtype="float32"):
        part.push_to_hub("someone/checkpoint")
    assert {"config.json", "model.safetensors", "modeling_fila.py", "README.md"} <= {
        path.name for path in hub.folder.iterdir()
    }
    assert_same_answers(stranger.answer(str(hub.folder)), without_fila(python_without_fila, hub.folder, tmp_path))


def test_saved_model_answers_alike_without_fila(python_without_fila: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    for part in load(dtype="float32"):
        part.save_pretrained(saved)
    assert_same_answers(stranger.answer(str(saved)), without_fila(python_without_fila, saved, tmp_path))
