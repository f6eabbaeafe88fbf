# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The examples run, at tiny size, and say what the command says."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from fila.cli.ask import ask, load_checkpoint, open_images
from tests.conversion.parts import write_clip, write_convnext, write_text

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_infer_answers_like_the_command(checkpoint: str, image: str, capsys: pytest.CaptureFixture[str]) -> None:
    example = runpy.run_path(str(EXAMPLES / "infer.py"))
    text = example["answer"](checkpoint, [image, image], "What is this?", max_new_tokens=5)
    model, processor = load_checkpoint(checkpoint, device="cpu")
    images = open_images([image, image])
    assert text == ask(model, processor, images, "What is this?", max_new_tokens=5).text


@pytest.mark.nightly  # seven programs one after the other
def test_fila_8b_trains_from_parts_to_scores(tmp_path: Path) -> None:
    """The script that is meant for eight GPUs, with tiny parts and a few rows."""
    write_clip(tmp_path / "clip")
    write_convnext(tmp_path / "convnext")
    write_text(tmp_path / "text")
    data, run = Path(__file__).parents[1] / "training" / "foreign", tmp_path / "run"
    settings = {
        "LOW_RES": tmp_path / "clip",
        "HIGH_RES": tmp_path / "convnext",
        "TEXT": tmp_path / "text",
        "ALIGN_DATA": data / "llava" / "pretrain.json",
        "ALIGN_IMAGES": data / "llava" / "images",
        "TUNE_DATA": data / "llava" / "mix.json",
        "TUNE_IMAGES": data / "llava" / "images",
        "TEST_DATA": data / "docvqa",
        "RUN": run,
        "GPUS": 1,
        "ALIGN_BATCH": 2,
        "ALIGN_STEPS": 1,
        "TUNE_STEPS": 1,
        "SAVE_STEPS": 1,
        "LOGGING_STEPS": 1,
        "FILA": f"{sys.executable} -m fila",
        "LAUNCH": f"{sys.executable} -m fila",
    }
    environment = os.environ | {name: str(value) for name, value in settings.items()}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    ended = subprocess.run(
        ["bash", str(EXAMPLES / "fila_8b" / "train.sh")], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == str(run / "finetune" / "final")
    assert "GPUs" in ended.stdout
    assert json.loads((run / "scores" / "evaluation.json").read_text())["scores"]["all"]["all"]["count"] == 1
    stages = [json.loads((run / stage / "trainer_state.json").read_text()) for stage in ("align", "finetune")]
    assert [stage["global_step"] for stage in stages] == [1, 1]
