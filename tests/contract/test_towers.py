# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Checkpoints with every tower answer alike where `fila` cannot be imported."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from fila import FilaForConditionalGeneration
from tests.contract import stranger
from tests.contract.settings import fitting_processor
from tests.helpers import assert_close, random_image, randomise, single_tower, tiny_config
from tests.modeling.tiny_towers import HIGH_RES, LOW_RES, high_res, low_res

ALONE = {name: {"vision_config": low_res(name), **single_tower()} for name in LOW_RES}
TOGETHER: dict[str, Any] = {
    "extra_vision_configs": [high_res(name) for name in HIGH_RES if name != "convnext"],
    "fusion": {"type": "channel_concat", "align": "corners"},
}


def test_checkpoints_answer_alike_without_fila(tmp_path: Path) -> None:
    expected = {}
    for name, changes in {**ALONE, "together": TOGETHER}.items():
        model = FilaForConditionalGeneration(tiny_config(**changes)).eval()
        randomise(model)
        folder = tmp_path / "checkpoints" / name
        model.save_pretrained(folder)
        batch = fitting_processor(model)(
            text=["<image> ab"], images=[[random_image(20, 50)]], padding=True, return_tensors="pt"
        )
        save_file({key: x.contiguous() for key, x in batch.items()}, folder / "batch.bin")
        with torch.no_grad():
            expected[name] = model(**batch).logits
    command = [sys.executable, "-I", stranger.__file__, tmp_path / "checkpoints", tmp_path / "logits.safetensors"]
    environment = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    found = load_file(tmp_path / "logits.safetensors")
    assert set(found) == set(expected)
    for name, logits in expected.items():
        assert_close(found[name], logits)
