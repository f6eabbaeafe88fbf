# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from fila.cli.demo import bundled_files
from fila.processing.processing_fila import FilaProcessor
from fila.training.data import Question
from fila.training.evaluation import Answered
from fila.training.page_files import write_pages
from fila.training.page_fonts import DEFAULT_FACES
from projects.default_model import package_assets as shipping
from projects.default_model import recipe
from projects.default_model.model import make_model, make_processor
from projects.default_model.package_assets import pick_pages, report, ship
from projects.default_model.recipe import (
    Step,
    assemble_start,
    average,
    final_model,
    finetune_folder,
    warm_up,
    warm_up_folder,
)
from projects.default_model.warm_up import WarmUpTrainer


def kill(*args: object, **kwargs: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with three pages and warm-ups of two steps."""
    short = dict.fromkeys(recipe.WARM_UPS, Step(2, 1, 1e-3, 1e-3))
    monkeypatch.setattr(recipe, "WARM_UPS", short)
    monkeypatch.setattr(recipe, "LOG_STEPS", 1)
    image_processor = make_processor().image_processor
    for name in {name for names in recipe.WARM_UP_PAGES.values() for name in names}:
        split, dense = recipe.PAGES[name][1], "--dense" in recipe.PAGES[name]
        write_pages(tmp_path / "pages" / name, split, 3, image_processor, faces=DEFAULT_FACES, dense=dense)
    return tmp_path


@pytest.mark.nightly  # a hundred seconds each; the next tests run the same steps, but not to their end
@pytest.mark.parametrize("fusion", ["cvfm", "none"])
def test_warm_ups_end_in_a_checkpoint_that_holds_them(fusion: str, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in recipe.WARM_UPS:
        warm_up(name, run, fusion)
        assert (warm_up_folder(name, run, fusion) / "log.json").is_file()
    with monkeypatch.context() as patch:
        patch.setattr(FilaProcessor, "save_pretrained", kill)
        with pytest.raises(KeyboardInterrupt):
            assemble_start(run, run / "start", fusion)
    assert not (run / "start").exists()
    assemble_start(run, run / "start", fusion)
    model = AutoModelForImageTextToText.from_pretrained(run / "start")
    language = torch.load(run / recipe.LANGUAGE_STEPS[-1] / "weights.pt")
    norm = "norm.weight"
    assert torch.equal(model.model.language_model.get_parameter(norm), language[f"language_model.{norm}"])
    connector = torch.load(warm_up_folder("encoder", run, fusion) / "weights.pt")
    linear = model.model.multi_modal_projector.linear_1.weight
    assert torch.equal(linear, connector["connector.linear_1.weight"])
    shutil.copytree(run / "start", final_model(run, fusion))
    ship(run, run / "shipped", fusion)
    shipped = AutoModelForImageTextToText.from_pretrained(run / "shipped")
    assert shipped.dtype == torch.float16
    assert not list((run / "shipped").glob("*.py"))
    assert torch.equal(shipped.model.language_model.get_parameter(norm), language[f"language_model.{norm}"].half())
    for name in recipe.FINETUNES:
        folder = recipe.finetune_folder(name, run, fusion)
        folder.mkdir(exist_ok=True)
        (folder / "trainer_state.json").write_text('{"log_history": [{"step": 1, "loss": 0.123456}]}')
    (run / f"evaluation-{fusion}").mkdir()
    (run / f"evaluation-{fusion}" / "evaluation.json").write_text(
        json.dumps({"checkpoint": str(final_model(run, fusion))})
    )
    report(run, run / "report", fusion)
    told = json.loads((run / "report" / "evaluation.json").read_text())
    assert told["checkpoint"] == str(final_model(run, fusion).relative_to(run))
    logs = json.loads((run / "report" / "logs.json").read_text())
    assert set(logs) == {*recipe.WARM_UPS, *recipe.FINETUNES}
    assert logs["finetune"] == logs["finish"] == [{"step": 1, "loss": 0.1235}]
    assert {path.name for path in (run / "report").iterdir()} == {
        "logs.json",
        "evaluation.json",
        "warm_ups.png",
        "finetune.png",
    }
    if fusion == "cvfm":
        stem = "high_res_tower.embeddings.patch_embeddings.weight"
        assert torch.equal(model.model.vision_tower.get_parameter(stem), connector[f"vision_tower.{stem}"])
        towers = torch.load(run / "deeper" / "weights.pt")
        frozen = torch.load(warm_up_folder("connector", run, fusion) / "weights.pt")
        assert torch.equal(frozen[f"vision_tower.{stem}"], towers[stem.replace("high_res_tower", "tower")])


def test_card_of_the_default_model_is_what_is_shipped_and_says_what_is_not_read() -> None:
    with bundled_files() as assets:
        card = (assets / "default_model" / "README.md").read_text(encoding="utf-8")
    assert card == shipping._CARD.format(size=6.9)
    found = card.partition("## What it does not read")[2].partition("## Use")[0]
    said = ("a space", "real language", "`$`", "above its label", "`Read the first 8 fields.`")
    assert [what for what in said if what not in found] == []


def test_demonstration_gets_the_first_pages_that_are_read_right(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    processor = make_processor()
    for part in (make_model(processor), processor):
        part.save_pretrained(final_model(run, "cvfm"))
    write_pages(run / "candidates", "test", 12, processor.image_processor, faces=DEFAULT_FACES, first_seed=7)
    candidates = [json.loads(line) for line in (run / "candidates" / "pages.jsonl").read_text().splitlines()]
    unread = candidates[0]["fields"][0]["question"]

    def answers(
        model: object, processor: object, questions: Iterable[Question], **kwargs: object
    ) -> Iterator[Answered]:
        for each in questions:
            yield Answered("", each.answer, "?" if each.text == unread else each.answer, {})

    monkeypatch.setattr(shipping, "answer_questions", answers)
    pick_pages(run, run / "demo_pages", run / "fonts")
    picked = [json.loads(line) for line in (run / "demo_pages" / "pages.jsonl").read_text().splitlines()]
    assert len(picked) == 2
    assert len({page["fields"][0]["layout"] for page in picked}) == 2
    asked = [[field["question"] for field in page["fields"]] for page in candidates]
    first = next(
        page
        for page, about in zip(candidates, asked, strict=True)
        if len(about) >= shipping.DEMO_FIELDS and unread not in about
    )
    assert picked[0]["images"] == first["images"]
    for page in picked:
        assert "glyphs" not in page
        name = page["images"][0]
        assert (run / "demo_pages" / name).read_bytes() == (run / "candidates" / name).read_bytes()


def test_warm_up_goes_on_where_it_stopped(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "WARM_UPS", {"language": Step(4, 1, 1e-3, 1e-3)})
    warm_up("language", run, output=run / "whole")

    def stop(self: object, *args: object, **kwargs: object) -> None:
        original(self, *args, **kwargs)
        raise KeyboardInterrupt

    def stop_at_weights(value: object, path: Path | str) -> None:
        save(value, path)
        if "weights" in str(path):
            raise KeyboardInterrupt

    original, save = WarmUpTrainer._save_checkpoint, torch.save
    with monkeypatch.context() as patch:
        patch.setattr(recipe, "SAVE_STEPS", 2)
        patch.setattr(WarmUpTrainer, "_save_checkpoint", stop)
        with pytest.raises(KeyboardInterrupt):
            warm_up("language", run)
    assert [path.name for path in (run / "language").glob("checkpoint-*")] == ["checkpoint-2"]
    (run / "language" / "checkpoint-3").mkdir()
    warm_up("language", run)
    whole, resumed = (torch.load(run / name / "weights.pt") for name in ("whole", "language"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    (run / "language" / "weights.pt").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", stop_at_weights)
        with pytest.raises(KeyboardInterrupt):
            warm_up("language", run)
    assert not (run / "language" / "weights.pt").exists()


def test_blocks_that_are_added_to_the_tower_pass_on_what_they_are_given(run: Path) -> None:
    for name in ("towers", "letters"):
        warm_up(name, run)
    shallow, pages, collate = recipe.prepare("letters", run, "cvfm", 0)
    shallow.load_state_dict(torch.load(run / "letters" / "weights.pt"))
    deeper, _, _ = recipe.prepare("deeper", run, "cvfm", 0)
    assert len(deeper.state_dict()) > len(shallow.state_dict())
    batch = collate([pages[0], pages[1]])
    torch.testing.assert_close(deeper(**batch)["loss"], shallow(**batch)["loss"])
    torch.save({**deeper.state_dict(), "unknown": torch.zeros(1)}, run / "letters" / "weights.pt")
    with pytest.raises(ValueError, match="deeper must have all weights of letters"):
        recipe.prepare("deeper", run, "cvfm", 0)
    weights = shallow.state_dict()
    del weights["heads.0.1.bias"]
    torch.save(weights, run / "letters" / "weights.pt")
    with pytest.raises(ValueError, match=r"letters must have all weights of deeper .* got no \['heads.0.1.bias'\]"):
        recipe.prepare("deeper", run, "cvfm", 0)


def test_what_was_not_saved_to_its_end_is_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(recipe, "WARM_UPS", {})
    monkeypatch.setattr(recipe, "call", lambda *words: calls.append(words))
    folders = [tmp_path / "start-cvfm", *(tmp_path / f"{name}-cvfm" / "final" for name in recipe.FINETUNES)]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "config.json").touch()
        if folder.parent.name != "finish-cvfm":
            (folder / "README.md").touch()
    final_model(tmp_path).mkdir()
    (final_model(tmp_path) / "config.json").touch()
    recipe.train_default_model(tmp_path)
    trained = [words for words in calls if "train" in words]
    assert [words[words.index("-o") + 1] for words in trained] == [str(tmp_path / "finish-cvfm")]


def test_average_is_the_mean_of_the_last_two_finetunings(tmp_path: Path) -> None:
    processor = make_processor()
    models = [make_model(processor, seed=seed) for seed in (1, 2)]
    for name, model in zip(list(recipe.FINETUNES)[-2:], models, strict=True):
        folder = finetune_folder(name, tmp_path, "cvfm") / "final"
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    average(tmp_path, final_model(tmp_path))
    found = AutoModelForImageTextToText.from_pretrained(final_model(tmp_path), dtype=torch.float32)
    for weight, first, last in zip(*(each.parameters() for each in (found, *models)), strict=True):
        torch.testing.assert_close(weight, (first + last) / 2)


def test_a_failed_command_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"`python -m fila no-such-command` ended with status 2"):
        recipe.call("fila", "no-such-command")
