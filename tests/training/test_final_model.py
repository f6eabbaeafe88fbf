# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
from pathlib import Path

import pytest

from fila.conversion.pretrained_part import read_card
from fila.conversion.verify import verify
from fila.training.final_model import save_final_model
from fila.training.trainer import FilaTrainer
from tests.helpers import tiny_model, tiny_processor
from tests.training.samples import arguments, make_samples


def test_final_model_passes_verify_and_keeps_licence_and_card_of_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = tmp_path / "assembled"
    parent.mkdir()
    (parent / "import.json").write_text('{"system": "llava"}')
    (parent / "README.md").write_text("---\nlicense: mit\n---\n\n# assembled\n\n## Parts\n\n**UNTRAINED: fusion.**\n")
    settings = arguments(tmp_path / "mine", max_steps=2, stage="align")
    trainer = FilaTrainer(tiny_model(), settings, processing_class=tiny_processor(), train_dataset=make_samples(2))
    trainer.train()
    folder = tmp_path / "mine" / "final"
    save_final_model(trainer, folder, parent=str(parent), data="pages:train")
    assert [check for check in verify(folder, forward=False) if not check.ok] == []
    assert read_card(folder)["license"] == "mit"
    assert (folder / "import.json").read_text() == '{"system": "llava"}'  # for `fila export`
    card = (folder / "README.md").read_text()
    assert (
        "# mine\n\nTrained from `assembled` with `fila train`: training stage `align`, 2 steps on `pages:train`"
        in card
    )
    assert ", last loss 6." in card
    assert card.index("## What it was trained from") < card.index("### assembled") < card.index("#### Parts")

    save_final_model(trainer, folder, parent="owner/name", data=str(tmp_path / "my-data.jsonl"))
    card = (folder / "README.md").read_text()
    assert "Trained from `name`" in card
    assert "on `my-data.jsonl`" in card
    assert "What it was trained from" not in card
    assert read_card(folder)["library_name"] == "transformers"
    assert str(tmp_path) not in card

    monkeypatch.setattr("fila.training.final_model.cached_file", lambda repository, *_, **__: parent / "README.md")
    save_final_model(trainer, folder, parent="owner/name", data="pages:train")
    assert read_card(folder)["license"] == "mit"
