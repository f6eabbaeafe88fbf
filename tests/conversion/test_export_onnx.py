# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""ONNX files: onnxruntime gives the model's image tokens, and `examples/answer_onnx.py` its answers."""

import json
import runpy
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch

import fila
from fila import FilaForConditionalGeneration, FilaProcessor
from fila.cli.ask import ask, load_checkpoint, open_images
from tests.helpers import assert_close, random_image, save_smallest

ASSETS = Path(fila.__file__).parent / "assets"
EXAMPLE = Path(__file__).parents[2] / "examples" / "answer_onnx.py"
# six images on five tile grids
SIZES = [(190, 200), (100, 300), (333, 90), (64, 64), (300, 150), (20, 33)]

# in the exporter of transformers, and on importing an older one
pytestmark = [
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning"),
]


def check_tokens(model: FilaForConditionalGeneration, processor: FilaProcessor, path: Path) -> dict[str, list[Any]]:
    """Compare the image tokens of six images on at least three tile grids; return the inputs of the graph."""
    session = onnxruntime.InferenceSession(path)
    inputs = {given.name: given.shape for given in session.get_inputs()}
    grids = set()
    for seed, size in enumerate(SIZES):
        batch = processor.image_processor(random_image(*size, seed=seed), return_tensors="pt")
        grids.add(tuple(batch["tile_grid"][0].tolist()))
        (expected,) = model.get_image_features(**batch).pooler_output
        (found,) = session.run(["image_tokens"], {name: batch[name].numpy() for name in inputs})
        assert_close(torch.from_numpy(found), expected, 1e-4)  # measured: 1e-5
    assert len(grids) >= 3
    return inputs


@torch.no_grad()
def check_files(checkpoint: Path, folder: Path, image: Path, questions: list[str], **options: Any) -> dict[str, Any]:
    """Compare files with the model that they were exported from; return the answers and the inputs of the graph."""
    example = runpy.run_path(str(EXAMPLE))
    example["export"](str(checkpoint), str(folder))
    model, processor = load_checkpoint(str(checkpoint), device="cpu", dtype="float32")
    answers = [example["answer"](str(folder), str(image), question, **options) for question in questions]
    assert answers == [ask(model, processor, open_images([str(image)]), each, **options).text for each in questions]
    return {"answers": answers, "inputs": check_tokens(model, processor, folder / "vision.onnx")}


def test_onnx_files_give_tokens_and_answers_of_the_model(tmp_path: Path) -> None:
    save_smallest(tmp_path / "tiny")
    random_image(53, 97).save(tmp_path / "noise.png")
    found = check_files(
        tmp_path / "tiny", tmp_path / "onnx", tmp_path / "noise.png", ["What is this?"], max_new_tokens=5
    )
    assert found["inputs"] == {
        "pixel_values": [1, "views", 3, 28, 28],
        "high_res_pixel_values": [1, 3, "16*rows", "16*cols"],
        "view_boxes": [1, "views", 4],
    }


@pytest.mark.nightly  # a minute
def test_onnx_files_of_the_default_model_read_a_page(tmp_path: Path) -> None:
    pages = (ASSETS / "demo_pages" / "pages.jsonl").read_text(encoding="utf-8").splitlines()
    page = json.loads(pages[0])
    questions, answers = ([field[name] for field in page["fields"]] for name in ("question", "answer"))
    image = ASSETS / "demo_pages" / page["images"][0]
    assert check_files(ASSETS / "default_model", tmp_path, image, questions)["answers"] == answers
