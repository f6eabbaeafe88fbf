# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""A checkpoint that takes videos answers alike where `fila` cannot be imported: its code lies beside the weights."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.models.auto.video_processing_auto import AutoVideoProcessor

from tests.processing.videos import video_bytes
from tests.tiny_videos import video_model, video_processor

CODE = """
import json, sys
sys.modules["fila"] = None  # importing it raises ImportError
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.models.auto.video_processing_auto import AutoVideoProcessor
sys.path.insert(0, sys.argv[1])
from answer_video import answer
auto = (AutoModelForImageTextToText, AutoProcessor, AutoVideoProcessor)
print(json.dumps(answer(*auto, sys.argv[2], sys.argv[3], trust_remote_code=True)))
"""
ANSWER = """
def answer(auto_model, auto_processor, auto_video_processor, checkpoint, video, **options):
    model = auto_model.from_pretrained(checkpoint, **options).eval()
    processor = auto_processor.from_pretrained(checkpoint, **options)
    frames = auto_video_processor.from_pretrained(checkpoint, **options)
    inputs = processor(text="a <video> b", videos=[video], return_tensors="pt")
    tokens = model.generate(**inputs, max_new_tokens=5, do_sample=False)
    same = (frames(video, return_tensors="pt")["pixel_values_videos"] == inputs["pixel_values_videos"]).all()
    parts = (model, processor, processor.video_processor, frames)
    return {"tokens": tokens.tolist(), "same": bool(same), "modules": [type(part).__module__ for part in parts]}
"""


def test_video_checkpoint_answers_alike_without_fila(tmp_path: Path) -> None:
    model = video_model({"type": "stc", "depth": 1, "image_frames": 3})
    model.save_pretrained(tmp_path / "checkpoint")
    video_processor(model, video_layout={"type": "timestamps"}).save_pretrained(tmp_path / "checkpoint")
    (tmp_path / "clip.mp4").write_bytes(video_bytes(25))
    (tmp_path / "answer_video.py").write_text(ANSWER, encoding="utf-8")
    arguments = [str(tmp_path), str(tmp_path / "checkpoint"), str(tmp_path / "clip.mp4")]
    environment = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.run(
        [sys.executable, "-I", "-c", CODE, *arguments],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    remote = json.loads(process.stdout.splitlines()[-1])
    scope: dict[str, Any] = {}
    exec(ANSWER, scope)
    torch.manual_seed(0)
    auto = (AutoModelForImageTextToText, AutoProcessor, AutoVideoProcessor)
    installed = scope["answer"](*auto, *arguments[1:])
    assert all(name.startswith("fila.") for name in installed["modules"])
    assert all(name.startswith("transformers_modules.") for name in remote["modules"])
    assert remote["tokens"] == installed["tokens"]
    assert remote["same"]
    assert installed["same"]
