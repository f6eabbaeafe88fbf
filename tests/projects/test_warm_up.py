# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset
from transformers import TrainingArguments

from fila.modeling.connector_identity import IdentityConnector
from fila.training.page_files import write_pages
from fila.training.page_fonts import DEFAULT_FACES
from fila.training.page_sheet import Glyph
from projects.default_model.character_tokens import CLASS_OF, TOLD, TRAITS
from projects.default_model.model import make_model, make_processor
from projects.default_model.recipe import start_tower
from projects.default_model.warm_up import (
    ConnectorWarmUp,
    GlyphPages,
    LanguageWarmUp,
    SpelledPages,
    TowerWarmUp,
    WarmUpTrainer,
    jitter,
    per_cell,
    slot_targets,
)

GRID = (8, 8)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image_processor = make_processor().image_processor
    return write_pages(tmp_path_factory.mktemp("pages"), "train", 3, image_processor, faces=DEFAULT_FACES, read=2)


def test_slots_hold_the_characters_whose_centres_they_contain() -> None:
    # a 128 x 128 image on the 64 x 64 canvas of 2 x 2 tiles of 8 x 8 patches: a slot is 2 x 1 pixels of the image
    plan = make_processor().image_processor.plan(128, 128)
    assert plan.tile_grid == (2, 2)
    slots = slot_targets(
        [Glyph("Q", 33.0, 50.5), Glyph("a", -3.0, 5.0), Glyph("b", 5.0, 128.0)], (128, 128), plan, GRID
    )
    assert slots.shape == (64, 128)
    assert slots.nonzero().tolist() == [[16, 50]]
    assert slots[16, 50] == CLASS_OF["Q"]


def test_slots_follow_the_padding_of_the_canvas() -> None:
    plan = make_processor().image_processor.plan(100, 128)
    assert plan.content_box.top > 0
    slots = slot_targets([Glyph("a", 0.0, 0.0)], (100, 128), plan, GRID)
    assert slots.nonzero().tolist() == [[plan.content_box.top, 0]]


@pytest.mark.parametrize(("cells", "shape"), [(2, (32, 32, 4)), (4, (64, 64, 2))])
def test_cells_hold_every_character_once(cells: int, shape: tuple[int, ...]) -> None:
    slots = torch.zeros(1, 64, 128, dtype=torch.long)
    slots[0, 37, 75] = 5
    found = per_cell(slots, cells)
    assert found.shape == (1, *shape)
    assert found.count_nonzero() == 1
    row, col, slot = found[0].nonzero()[0].tolist()
    assert (row, col, slot) == (37 * shape[0] // 64, 75 // shape[2], 75 % shape[2])


def test_jitter_moves_characters_with_their_ink() -> None:
    image = Image.new("RGB", (101, 67), (250, 250, 250))
    image.putpixel((40, 30), (0, 0, 0))
    for seed in range(8):
        moved, (glyph,) = jitter(image, [Glyph("i", 30.0, 40.0)], Random(seed), shift=0.05)
        pixels = np.asarray(moved.convert("L"), dtype=int)
        odd = np.argwhere(pixels != np.median(pixels))
        assert odd.tolist() == [[glyph.y, glyph.x]]


def test_pages_are_jittered_anew_but_the_same_for_a_number(pages: Path) -> None:
    data = GlyphPages([pages], make_processor(), times=2)
    assert len(data) == 6
    first, again, around = data[1], data[1], data[4]
    assert first["glyphs"] == again["glyphs"] != around["glyphs"]
    assert [each.character for each in first["glyphs"]] == [each.character for each in around["glyphs"]]
    slots = data.canvases([first, around])["slots"]
    assert not torch.equal(slots[0], slots[1])
    with pytest.raises(IndexError):
        data[6]


def test_towers_learn_a_fixed_batch(pages: Path) -> None:
    processor = make_processor()
    tower = make_model(processor).model.vision_tower.high_res_tower
    start_tower(tower)
    data = GlyphPages([pages], processor)
    batch = data.canvases([data[0], data[1]])
    warm_up = TowerWarmUp(tower).train()
    optimizer = torch.optim.AdamW(warm_up.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        outputs = warm_up(**batch)
        optimizer.zero_grad()
        outputs["loss"].backward()
        optimizer.step()
        losses.append(outputs["loss"].item())
    assert losses[-1] < 0.7 * losses[0]
    assert 0 <= outputs["accuracy"] <= 1
    assert all(parameter.grad is not None for parameter in tower.parameters())


def test_tower_warm_up_of_an_empty_page_is_finite() -> None:
    processor = make_processor()
    warm_up = TowerWarmUp(make_model(processor).model.vision_tower.high_res_tower)
    outputs = warm_up(torch.zeros(1, 3, 256, 256), torch.zeros(1, 64, 128, dtype=torch.long))
    assert torch.isfinite(outputs["loss"])
    assert outputs["accuracy"] == 0


def test_language_model_sees_spelled_tokens_where_the_image_is(pages: Path) -> None:
    processor = make_processor()
    model = make_model(processor)
    data = SpelledPages(pages, processor)
    batch = data.collate([data[0], data[1]])
    assert int((batch["input_ids"] == processor.image_token_id).sum()) == len(batch["spelling"]) == 2 * 5 * 64
    warm_up = LanguageWarmUp(model, processor.tokenizer).eval()
    loss = warm_up(**batch)["loss"]
    # the same by the model's own forward, row by row
    embedded = model.get_input_embeddings()(batch["input_ids"])
    tokens = warm_up.spelled(batch["spelling"]).view(2, 320, -1)
    total, count = 0.0, 0
    for row in range(2):
        embedded[row, batch["input_ids"][row] == processor.image_token_id] = tokens[row]
        length = int((batch["input_ids"][row] != processor.tokenizer.pad_token_id).sum())
        labels = batch["labels"][row : row + 1, :length]
        supervised = int((labels[:, 1:] != -100).sum())
        own = model(inputs_embeds=embedded[row : row + 1, :length], labels=labels).loss
        total, count = total + own.item() * supervised, count + supervised
    assert loss.item() == pytest.approx(total / count, rel=1e-5)


def test_connector_learns_to_spell_and_leaves_the_reader_alone(pages: Path) -> None:
    processor = make_processor()
    model = make_model(processor)
    reader = LanguageWarmUp(model, processor.tokenizer)
    data = GlyphPages([pages], processor)
    batch = data.images([data[0]])
    model.model.vision_tower.high_res_tower.requires_grad_(False)
    warm_up = ConnectorWarmUp(model, reader.spelled).train()
    before = reader.spelled.turns.clone()
    optimizer = torch.optim.AdamW([p for p in warm_up.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(15):
        outputs = warm_up(**batch)
        optimizer.zero_grad()
        outputs["loss"].backward()
        optimizer.step()
        losses.append(outputs["loss"].item())
    assert losses[-1] < 0.7 * losses[0]
    assert torch.equal(reader.spelled.turns, before)


def test_connector_that_spells_explains_everything() -> None:
    processor = make_processor()
    model = make_model(processor)
    reader = LanguageWarmUp(model, processor.tokenizer)
    spelling = torch.randint(0, 9, (5 * 64, TOLD, TRAITS), dtype=torch.uint8)

    class Perfect(torch.nn.Module):
        fusion = SimpleNamespace(output_grid=GRID)

        def forward(self) -> SimpleNamespace:
            return SimpleNamespace(last_hidden_state=reader.spelled(spelling).view(5, 64, -1) + self.error)

    warm_up = ConnectorWarmUp(model, reader.spelled)
    width = model.config.text_config.hidden_size
    warm_up.vision_tower, warm_up.connector = Perfect(), IdentityConnector(model.config, input_size=width)
    warm_up.vision_tower.error = 0.0
    assert warm_up(spelling)["loss"].item() == pytest.approx(0, abs=1e-12)
    assert warm_up(spelling)["accuracy"].item() == pytest.approx(1)
    warm_up.vision_tower.error = 0.5
    written = (spelling[..., 0] > 0).any(1)
    spread = reader.spelled(spelling)[written].var(0, unbiased=False).mean()
    assert warm_up(spelling)["accuracy"].item() == pytest.approx(1 - 0.25 / spread.item(), rel=1e-4)


def test_trainer_logs_the_accuracy(pages: Path, tmp_path: Path) -> None:
    processor = make_processor()
    data = SpelledPages(pages, processor)
    arguments: dict[str, Any] = {"logging_steps": 1, "report_to": "none", "use_cpu": True, "save_strategy": "no"}
    trainer = WarmUpTrainer(
        LanguageWarmUp(make_model(processor), processor.tokenizer),
        TrainingArguments(
            tmp_path,
            max_steps=2,
            per_device_train_batch_size=1,
            remove_unused_columns=False,
            disable_tqdm=True,
            **arguments,
        ),
        train_dataset=Subset(data, [0, 1]),
        data_collator=data.collate,
    )
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logged) == 2
    assert all(0 <= entry["accuracy"] <= 1 for entry in logged)
