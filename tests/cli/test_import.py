# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""`fila import`, `fila verify` and `fila export` one after the other, on a tiny original."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from tests.conversion.originals import ORIGINALS, write_original

Run = Callable[..., Any]


def test_import_verify_export(fila: Run, tmp_path: Path) -> None:
    original = ORIGINALS["mini-gemini-hd"]
    state = write_original(tmp_path / "theirs", original)
    theirs, ours, back = (str(tmp_path / name) for name in ("theirs", "ours", "back"))
    sizes = ["--low-res", json.dumps(original.low_res), "--high-res", json.dumps(original.high_res)]
    sizes += ["--config", json.dumps(original.config)]
    result = fila("import", theirs, "--system", "mini-gemini", "-o", ours, *sizes)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() == ours
    verified = fila("verify", ours, "--no-forward")
    assert verified.exit_code == 0, verified.stdout
    result = fila("export", ours, "-o", back)
    assert result.exit_code == 2
    assert "left 2 tensors behind" in result.stderr
    result = fila("export", ours, "-o", back, "--original", theirs)
    assert result.exit_code == 0, result.stderr
    assert load_file(tmp_path / "back" / "model.safetensors").keys() == state.keys()


def test_another_system_is_told_in_one_line(fila: Run, tmp_path: Path) -> None:
    write_original(tmp_path / "theirs", ORIGINALS["llava-next"])
    result = fila("import", str(tmp_path / "theirs"), "--system", "leo", "-o", str(tmp_path / "ours"))
    assert result.exit_code == 2
    assert result.stderr.startswith("error: theirs is no checkpoint of leo")
    assert result.stderr.count("\n") == 1
