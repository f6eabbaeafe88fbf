# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""A checkpoint answers alike where `fila` is installed and where it is not.

The second place is a real virtual environment with a link to every package of the one that runs the tests, but fila.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi
from transformers import AutoModelForImageTextToText, AutoProcessor

from fila.conversion.assemble import assemble
from fila.processing.chat_template import DEFAULT_CHAT_TEMPLATE
from tests.conversion.parts import write_clip, write_convnext, write_text
from tests.helpers import assert_close, randomise, tiny_model, tiny_processor
from tests.integration import stranger


@pytest.fixture(scope="session")
def python_without_fila(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(("fila", "__editable__")) and entry.suffix != ".pth":
            (packages / entry.name).symlink_to(entry)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def assembled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    write_clip(folder / "low")
    write_convnext(folder / "high")
    write_text(folder / "text")
    assemble(folder / "low", folder / "high", folder / "text", folder / "model", progress=False)
    # new weights start as the identity; these let the images through
    model = AutoModelForImageTextToText.from_pretrained(folder / "model", dtype=torch.float32)
    randomise(model)
    shutil.copytree(folder / "model", folder / "random")
    model.save_pretrained(folder / "random")
    return folder / "random"


def without_fila(python: Path, checkpoint: Path, scratch: Path) -> dict[str, Any]:
    """Answer in a fresh offline process of that environment, with `trust_remote_code=True`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_"))}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(scratch / "home"), "OMP_NUM_THREADS": "1"}
    output = scratch / "answer.json"
    process = subprocess.run(
        [python, "-I", stranger.__file__, checkpoint, output],
        env=environment,
        cwd=scratch,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    answer: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return answer


def assert_same_answers(installed: dict[str, Any], remote: dict[str, Any]) -> None:
    assert installed["fila is importable"]
    assert not remote["fila is importable"]
    assert all(name.startswith("fila.") for name in installed["classes"])
    assert all(name.startswith("transformers_modules.") for name in remote["classes"])
    for name in ("logits", "pipeline logits"):
        assert_close(torch.tensor(remote[name]), torch.tensor(installed[name]))
    assert_close(torch.tensor(installed["pipeline logits"]), torch.tensor(installed["logits"]))
    assert remote["generated"] == installed["generated"]
    assert remote["pipeline text"] == installed["pipeline text"]


def test_environment_has_no_fila(python_without_fila: Path) -> None:
    code = "import importlib.util as u, transformers; print(transformers.__version__, u.find_spec('fila'))"
    process = subprocess.run([python_without_fila, "-I", "-c", code], capture_output=True, text=True, check=True)
    import transformers

    assert process.stdout.split() == [transformers.__version__, "None"]


def test_assembled_checkpoint_answers_alike(assembled: Path, python_without_fila: Path, tmp_path: Path) -> None:
    assert_same_answers(stranger.answer(str(assembled)), without_fila(python_without_fila, assembled, tmp_path))


def test_saved_new_model_answers_alike(python_without_fila: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    processor = tiny_processor()
    processor.chat_template = DEFAULT_CHAT_TEMPLATE
    tiny_model().save_pretrained(saved)
    processor.save_pretrained(saved)
    assert_same_answers(stranger.answer(str(saved)), without_fila(python_without_fila, saved, tmp_path))


@pytest.mark.parametrize("prune", ["pixelprune", {"type": "visionzip", "dominant": 5, "contextual": 2, "cls": False}])
@pytest.mark.nightly
def test_pruned_model_answers_alike(python_without_fila: Path, tmp_path: Path, prune: Any) -> None:
    plain, saved = tiny_processor(), tmp_path / "saved"
    settings: dict[str, Any] = {"chat_template": DEFAULT_CHAT_TEMPLATE, "tokens_per_tile": 16, "prune": prune}
    tiny_model(prune=prune).save_pretrained(saved)
    type(plain)(plain.image_processor, plain.tokenizer, **settings).save_pretrained(saved)
    assert {"pruning.py", "token_pruning.py"} <= {path.name for path in saved.glob("*.py")}
    assert_same_answers(stranger.answer(str(saved)), without_fila(python_without_fila, saved, tmp_path))


def test_saved_checkpoint_answers_alike(assembled: Path, python_without_fila: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    AutoModelForImageTextToText.from_pretrained(assembled).save_pretrained(saved)
    AutoProcessor.from_pretrained(assembled).save_pretrained(saved)
    installed = stranger.answer(str(saved))
    assert_close(torch.tensor(installed["logits"]), torch.tensor(stranger.answer(str(assembled))["logits"]))
    assert_same_answers(installed, without_fila(python_without_fila, saved, tmp_path))


def test_saved_processor_equals_the_loaded_one(tmp_path: Path) -> None:
    processor = tiny_processor()
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert loaded.to_dict() == processor.to_dict()
    assert loaded.to_dict()["auto_map"] == {"AutoProcessor": "processing_fila.FilaProcessor"}


class Hub(HfApi):  # type: ignore[misc, unused-ignore]
    """A Hub that keeps in a folder what would be uploaded."""

    folder: Path

    def create_repo(self, repo_id: str, **kwargs: Any) -> Any:
        return type("Repository", (), {"repo_id": repo_id})

    def create_branch(self, **kwargs: Any) -> None:
        raise AssertionError("nothing is pushed to a branch")

    def create_commit(self, *, operations: list[Any], **kwargs: Any) -> None:
        for operation in operations:
            target = self.folder / operation.path_in_repo
            target.parent.mkdir(parents=True, exist_ok=True)
            with operation.as_file() as content:
                target.write_bytes(content.read())


def catch_uploads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """Have transformers upload into a folder."""
    hub = Hub()
    hub.folder = folder
    for module in list(sys.modules.values()):
        if module.__name__.startswith("transformers.") and "hf_api" in vars(module):
            monkeypatch.setattr(module, "hf_api", lambda: hub)
    return hub


def test_pushed_payload_answers_alike(
    assembled: Path, python_without_fila: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = catch_uploads(tmp_path / "hub", monkeypatch)
    model = AutoModelForImageTextToText.from_pretrained(assembled)
    processor = AutoProcessor.from_pretrained(assembled)
    model.push_to_hub("someone/checkpoint")
    processor.push_to_hub("someone/checkpoint")
    expected = {path.name for path in assembled.iterdir()} | {"README.md"}
    assert {path.name for path in hub.folder.iterdir()} == expected

    copy = tmp_path / "copy"
    shutil.copytree(hub.folder, copy)
    assert_same_answers(stranger.answer(str(copy)), without_fila(python_without_fila, copy, tmp_path))
