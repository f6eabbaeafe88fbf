# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from fila.training import recipe
from fila.training.default_model import make_processor
from fila.training.page_files import write_pages
from fila.training.page_fonts import DEFAULT_FACES
from fila.training.recipe import Step, assemble_start, warm_up, warm_up_folder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with three pages and warm-ups of two steps."""
    monkeypatch.setattr(recipe, "WARM_UPS", dict.fromkeys(recipe.WARM_UPS, Step(2, 1, 1e-3, 1e-3)))
    image_processor = make_processor().image_processor
    for name, dense in (("dense", True), ("train", False)):
        write_pages(tmp_path / "pages" / name, "train", 3, image_processor, faces=DEFAULT_FACES, dense=dense)
    return tmp_path


@pytest.mark.parametrize("fusion", ["cvfm", "none"])
def test_warm_ups_end_in_a_checkpoint_that_holds_them(fusion: str, run: Path) -> None:
    for name in ("towers", "language", "connector"):
        warm_up(name, run, fusion)
        assert (warm_up_folder(name, run, fusion) / "log.json").is_file()
    assemble_start(run, run / "start", fusion)
    model = AutoModelForImageTextToText.from_pretrained(run / "start")
    language = torch.load(run / "language" / "weights.pt")
    norm = "norm.weight"
    assert torch.equal(model.model.language_model.get_parameter(norm), language[f"language_model.{norm}"])
    connector = torch.load(warm_up_folder("connector", run, fusion) / "weights.pt")
    linear = model.model.multi_modal_projector.linear_1.weight
    assert torch.equal(linear, connector["connector.linear_1.weight"])
    if fusion == "cvfm":
        towers = torch.load(run / "towers" / "weights.pt")
        stem = "embeddings.patch_embeddings.weight"
        assert torch.equal(model.model.vision_tower.high_res_tower.get_parameter(stem), towers[f"tower.{stem}"])


def test_warm_up_goes_on_where_it_stopped(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warm_up("language", run)
    (run / "language" / "weights.pt").unlink()
    monkeypatch.setattr(recipe, "WARM_UPS", {"language": Step(3, 1, 1e-3, 1e-3)})
    warm_up("language", run)
    log = (run / "language" / "log.json").read_text()
    assert '"step": 3' in log


def test_a_failed_command_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"`python -m fila no-such-command` ended with status 2"):
        recipe.call("fila", "no-such-command")
