# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""`fila import`, `fila verify` and `fila export` one after the other, on a tiny original; VAR's files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModel

from fila import VarForImageGeneration, VarVQModel
from fila.cli.commands_checkpoints import IMPORTED
from fila.conversion.systems import SYSTEMS
from tests.conversion.originals import ORIGINALS, write_original
from tests.conversion.test_import_var import original as var_original
from tests.modeling.tiny_var import tiny_generator

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


def test_a_path_where_settings_go_is_refused(fila: Run, tmp_path: Path) -> None:
    command = ("import", tmp_path, "--system", "leo", "-o", tmp_path / "ours", "--low-res", "path/to/clip")
    result = fila(*command)
    assert result.exit_code == 2
    assert "--low-res takes a JSON object of settings; got 'path/to/clip'; weights go with --low-res-weights" in (
        result.stderr
    )


def test_another_system_is_told_in_one_line(fila: Run, tmp_path: Path) -> None:
    write_original(tmp_path / "theirs", ORIGINALS["llava-next"])
    result = fila("import", str(tmp_path / "theirs"), "--system", "leo", "-o", str(tmp_path / "ours"))
    assert result.exit_code == 2
    assert result.stderr.startswith("error: theirs is no checkpoint of leo")
    assert result.stderr.count("\n") == 1


def test_every_system_is_told() -> None:
    assert sorted([*SYSTEMS, "var"]) == list(IMPORTED)


def test_import_of_both_of_vars_files(fila: Run, tmp_path: Path) -> None:
    model = tiny_generator()
    tokenizer, transformer = var_original(model)
    torch.save(tokenizer, tmp_path / "vae.pth")
    torch.save(transformer | {"lvl_1L": torch.zeros(1, 21)}, tmp_path / "var.pth")
    vae, var = str(tmp_path / "vae.pth"), str(tmp_path / "var.pth")
    scales = json.dumps({"patch_nums": list(model.config.vq_config.patch_nums)})
    found = fila("import", vae, "--system", "var", "-o", tmp_path / "coder", "--config", scales)
    assert found.exit_code == 0, found.stderr
    assert found.stdout.strip() == str(tmp_path / "coder")
    assert type(AutoModel.from_pretrained(tmp_path / "coder")) is VarVQModel
    command = ["import", var, "--system", "var", "-o", tmp_path / "maker", "--config", scales]
    alone = fila(*command)
    assert alone.exit_code == 2
    assert "var.pth holds a transformer, whose image tokenizer is a file of its own. Pass `tokenizer`" in alone.stderr
    found = fila(*command, "--tokenizer", vae)
    assert found.exit_code == 0, found.stderr
    assert "left behind: 1 tensors (the level of each token follows from the patch numbers)" in found.stderr
    assert type(AutoModel.from_pretrained(tmp_path / "maker")) is VarForImageGeneration


def test_what_has_no_meaning_for_var_is_refused(fila: Run, tmp_path: Path) -> None:
    torch.save(var_original(tiny_generator())[0], tmp_path / "vae.pth")
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    for source, options, message in (
        ("vae.pth", ["--tokenizer", tmp_path / "vae.pth"], "vae.pth holds no transformer, for which `tokenizer`"),
        ("vae.pth", ["--dtype", "float16", "--low-res", "{}"], "--dtype, --low-res cannot go with `--system var`"),
        ("vae.pth", ["--config", '{"depth": 2}'], "holds `patch_nums` alone; got ['depth']"),
        (".", [], "must be a file of weights, .pth or .safetensors"),
        ("broken.pth", [], "broken.pth cannot be read as weights alone"),
    ):
        result = fila("import", tmp_path / source, "--system", "var", "-o", tmp_path / "out", *options)
        assert result.exit_code == 2
        assert message in result.stderr
        assert not (tmp_path / "out").exists()
