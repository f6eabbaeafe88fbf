# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""ONNX files: onnxruntime gives the model's image tokens, and `examples/answer_onnx.py` its answers."""

import json
import re
import runpy
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

import fila
from fila import FilaForConditionalGeneration, FilaProcessor
from fila.cli import app
from fila.cli.ask import ask, load_checkpoint, open_images
from tests.cases import each
from tests.helpers import assert_close, random_image, save_smallest, tiny_model

ASSETS = Path(fila.__file__).parent / "assets"
EXAMPLE = Path(__file__).parents[2] / "examples" / "answer_onnx.py"
# six images on five tile grids
SIZES = [(190, 200), (100, 300), (333, 90), (64, 64), (300, 150), (20, 33)]

# in the exporter of transformers, and on importing an older one
pytestmark = [
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning"),
]


def runner(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(each) for each in arguments], prog_name="fila")


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


def test_onnx_files_give_tokens_and_answers_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_smallest(Path("my-checkpoint"))
    image = Path("page.png")
    random_image(53, 97).save(image)
    monkeypatch.setattr("fila.conversion.export_onnx.MAX_BYTES", 1000)
    done = runner("export", "--onnx", "exported/vision.onnx", "my-checkpoint")
    assert (done.exit_code, done.stdout) == (0, "exported/vision.onnx\n")
    assert Path("exported/vision.onnx.data").stat().st_size > 1000
    # the example's own file of the vision half is this one
    monkeypatch.setattr("fila.conversion.export_onnx.export_onnx", lambda *paths: None)
    found = check_files(Path("my-checkpoint"), Path("exported"), image, ["What is this?"], max_new_tokens=5)
    assert found["inputs"] == {
        "pixel_values": [1, "views", 3, 28, 28],
        "high_res_pixel_values": [1, 3, "16*rows", "16*cols"],
        "view_boxes": [1, "views", 4],
    }
    monkeypatch.chdir("exported")
    for path in ("my-checkpoint", "page.png"):
        Path(path).symlink_to(tmp_path / path)
    names: dict[str, Any] = {}
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    exec("\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)), names)
    assert names["tokens"].shape == (16 * names["inputs"]["pixel_values"].shape[1], 24)
    assert_close(
        torch.from_numpy(names["tokens"]),
        names["program"].module()(**{name: torch.from_numpy(names["inputs"][name]) for name in found["inputs"]}),
        1e-4,
    )
    assert Path("vision.pt2").stat().st_size > 1000


def test_command_names_what_is_missing(tmp_path: Path) -> None:
    result = runner("export", tmp_path)
    assert (result.exit_code, "needs `--output`, a folder, or `--onnx`, a file" in result.stderr) == (2, True)


@each("options, message", [
    (["--onnx", "a.onnx", "--output", "b"], "leave ['--output'] out"),
    (["--like", "a.png", "--output", "b"], "it goes with `--onnx`"),
])  # fmt: skip
def test_command_refuses_options_that_it_would_not_follow(tmp_path: Path, options: list[str], message: str) -> None:
    result = runner("export", tmp_path, *options)
    assert (result.exit_code, message in " ".join(result.stderr.split())) == (2, True)


def test_example_refuses_positions_that_the_graph_does_not_count(tmp_path: Path) -> None:
    tiny_model(shared_positions=True).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="a model with `shared_positions`"):
        runpy.run_path(str(EXAMPLE))["export"](str(tmp_path), str(tmp_path / "exported"))


@pytest.mark.nightly  # a minute
def test_onnx_files_of_the_default_model_read_a_page(tmp_path: Path) -> None:
    pages = (ASSETS / "demo_pages" / "pages.jsonl").read_text(encoding="utf-8").splitlines()
    page = json.loads(pages[0])
    questions, answers = ([field[name] for field in page["fields"]] for name in ("question", "answer"))
    image = ASSETS / "demo_pages" / page["images"][0]
    assert check_files(ASSETS / "default_model", tmp_path, image, questions)["answers"] == answers
