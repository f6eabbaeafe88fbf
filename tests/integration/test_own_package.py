# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""A package outside of the repository defines parts; everything works with them that works with fila's."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from typer.testing import CliRunner

import fila
from fila.cli import app
from fila.conversion import own_parts
from fila.conversion.assemble import assemble
from fila.conversion.verify import verify
from fila.processing.canvas_native import NativeCanvas
from tests.conversion.parts import write_clip, write_convnext, write_text
from tests.helpers import random_image, randomise, single_tower, tiny_image_processor, tiny_model, tiny_tokenizer
from tests.integration import stranger
from tests.integration.own_package import write_package
from tests.integration.test_remote_code import assert_same_answers, python_without_fila, without_fila  # noqa: F401

OWN = {"fusion.film": "film.FilmFusion", "connector.pooled": "pooled.PooledConnector"}
FILES = {"film.py", "modulation.py", "overlap.py", "pooled.py"}


def forget() -> None:
    """Unregister every part, as in a fresh process."""
    for table, name in list(own_parts._registered):
        (found,) = {id(part[1]): part[1] for part in own_parts.KINDS.values() if part[0] == table}.values()
        found.pop(name, None)
    own_parts._registered.clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme_parts"]:
        del sys.modules[name]
    from fila.processing.image_settings import _cached_canvas

    _cached_canvas.cache_clear()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkpoint of such parts; the package is on the path for as long as it is needed."""
    folder = tmp_path_factory.mktemp("own")
    write_package(folder / "packages")
    sys.path.insert(0, str(folder / "packages"))
    write_clip(folder / "low")
    write_convnext(folder / "high")
    write_text(folder / "text")
    parts = {"fusion": "film", "connector": "pooled", "canvas": {"type": "overlap", "shared": 7}}
    assemble(folder / "low", folder / "high", folder / "text", folder / "model", progress=False, **parts)
    model = AutoModelForImageTextToText.from_pretrained(folder / "model", dtype=torch.float32)
    randomise(model)
    shutil.copytree(folder / "model", folder / "random")
    model.save_pretrained(folder / "random")
    yield folder / "random"
    sys.path.remove(str(folder / "packages"))
    forget()


def test_checkpoint_carries_the_files_of_the_package(checkpoint: Path) -> None:
    names = {path.name for path in checkpoint.glob("*.py")}
    assert names >= FILES
    assert not names & {"fusion_cvfm.py", "connector_mlp.py", "canvas_fila.py", "acme_parts.py"}
    assert fila.FilaConfig.from_pretrained(checkpoint).own_parts == OWN
    assert "from .modulation import modulated" in (checkpoint / "film.py").read_text()


def test_commands_plan_and_view(checkpoint: Path, tmp_path: Path) -> None:
    random_image(60, 90).save(tmp_path / "image.png")
    for words in (
        ["plan", "--checkpoint", str(checkpoint)],
        ["view", "--checkpoint", str(checkpoint), "--output", str(tmp_path / "view.png")],
    ):
        result = CliRunner().invoke(app, [words[0], str(tmp_path / "image.png"), *words[1:]])
        assert result.exit_code == 0, result.stderr


def test_model_trains_a_step_and_is_saved_again(checkpoint: Path, tmp_path: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    processor = AutoProcessor.from_pretrained(checkpoint)
    inputs = processor(text="<image> a", images=random_image(60, 90), return_tensors="pt")
    loss = model(**inputs, labels=inputs["input_ids"]).loss
    loss.backward()
    torch.optim.SGD(model.parameters(), 0.01).step()
    assert model.model.vision_tower.fusion.linear.weight.grad.abs().max() > 0
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.glob("*.py")} == {path.name for path in checkpoint.glob("*.py")}


def test_connector_of_another_package_takes_unequal_views(checkpoint: Path) -> None:
    fila.register_part("connector", "pooled", own_parts.KINDS["connector"][1]["pooled"])
    model = tiny_model(**single_tower(connector={"type": "pooled"}))
    canvas = {"type": "native", "patch_size": 7, "multiple": 2}
    images = tiny_image_processor(canvas=canvas, high_res_size=None)
    assert isinstance(images.plans(), NativeCanvas)
    processor = fila.FilaProcessor(images, tiny_tokenizer(), token_size=14)
    pictures = [random_image(56, 28), random_image(28, 84)]
    inputs = processor(
        text=["<image> a", "<image> b"], images=[[one] for one in pictures], return_tensors="pt", padding=True
    )
    counts = (inputs["input_ids"] == processor.image_token_id).sum(1).tolist()
    assert counts == [8, 12]
    assert torch.isfinite(model(**inputs).logits).all()


def test_checkpoint_answers_alike_without_fila_and_the_package(
    checkpoint: Path,
    python_without_fila: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    assert_same_answers(stranger.answer(str(checkpoint)), without_fila(python_without_fila, checkpoint, tmp_path))


def test_part_that_is_not_registered_is_named(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [place for place in sys.path if not place.endswith("packages")])
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path))
    expected = stranger.answer(str(checkpoint))["logits"]
    forget()
    with pytest.raises(
        ValueError, match=r"'pooled' is defined by pooled\.py beside the checkpoint.*fila\.load_parts\('/"
    ):
        AutoModelForImageTextToText.from_pretrained(checkpoint)
    with pytest.raises(ValueError, match=r"'overlap' is defined by overlap\.py .*trust_remote_code=True"):
        AutoProcessor.from_pretrained(checkpoint)
    with pytest.raises(ValueError, match=r"Read \['film\.py', 'overlap\.py', 'pooled\.py'\]"):
        fila.load_parts(checkpoint)
    refused = next(check for check in verify(checkpoint, forward=False) if not check.ok)
    assert "fila.load_parts" in refused.detail

    assert fila.load_parts(checkpoint, trust_remote_code=True) == ["canvas.overlap", *sorted(OWN)]
    assert stranger.answer(str(checkpoint))["logits"] == expected
    model, processor = (auto.from_pretrained(checkpoint) for auto in (AutoModelForImageTextToText, AutoProcessor))
    model.save_pretrained(tmp_path / "again")
    processor.save_pretrained(tmp_path / "again")
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (checkpoint / name).read_bytes()
    forget()
    assert fila.load_parts(checkpoint, trust_remote_code=True)
    checks = {check.name: check for check in verify(checkpoint, forward=False, trust_remote_code=True)}
    assert all(check.ok for check in checks.values()), checks
    assert "film.py" in checks["remote code is fila's"].detail
    forget()
