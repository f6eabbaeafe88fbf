# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Checkpoints of the tokenizer and the next-scale transformer answer alike where `fila` cannot be imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from fila import VarImageProcessorPil
from tests.helpers import assert_close, randomise
from tests.modeling.tiny_var import DRAWN, tiny_generator, tiny_tokenizer_model

CODE = """
import json, sys
sys.modules["fila"] = None  # importing it raises ImportError
import torch
from PIL import Image
from transformers import AutoConfig, AutoModel
from transformers.models.auto.image_processing_auto import AutoImageProcessor

answer = {}
with torch.inference_mode():
    for name in ("tokenizer", "generator"):
        folder = f"{sys.argv[1]}/{name}"
        model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
        processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
        pixels = processor(Image.linear_gradient("L"), return_tensors="pt")["pixel_values"]
        if name == "tokenizer":
            found = model.reconstruct(pixels)[0]
        else:
            found = model.generate(torch.tensor([1, 2]), do_sample=False).images
        answer[name] = found.tolist()
        answer[f"{name} pixels"] = pixels.tolist()
        answer[f"{name} classes"] = [type(part).__module__ for part in (model, processor, config)]
print(json.dumps(answer))
"""


def test_checkpoints_answer_alike_without_fila(tmp_path: Path) -> None:
    models = {"tokenizer": tiny_tokenizer_model(), "generator": tiny_generator()}
    processor = VarImageProcessorPil(size={"shortest_edge": 18}, crop_size={"height": 16, "width": 16})
    for name, model in models.items():
        randomise(model)
        model.save_pretrained(tmp_path / name)
        processor.save_pretrained(tmp_path / name)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_"))}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    process = subprocess.run(
        [sys.executable, "-I", "-c", CODE, str(tmp_path)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    answer = json.loads(process.stdout)
    for name in models:
        assert all(module.startswith("transformers_modules.") for module in answer[f"{name} classes"])
    pixels = torch.tensor(answer["tokenizer pixels"])
    assert_close(torch.tensor(answer["tokenizer"]), models["tokenizer"].reconstruct(pixels)[0], DRAWN)
    images = models["generator"].generate(torch.tensor([1, 2]), do_sample=False).images
    assert_close(torch.tensor(answer["generator"]), images, DRAWN)
