# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import torch
from PIL import Image

from fila.training.default_model import make_model, make_processor
from fila.training.page_sheet import Glyph
from fila.training.pages import Page
from fila.training.warm_up import CLASS_OF, IGNORED, SLOTS, TowerWarmUp, WarmUpPages, slot_targets

GRID = (8, 8)


def page_with(*glyphs: Glyph, size: tuple[int, int] = (224, 224)) -> Page:
    return Page(Image.new("RGB", size), (), glyphs, "none", "none")


def test_slot_targets_place_a_character_in_its_tile_patch_and_slot() -> None:
    # the 224 x 224 page fills the 112 x 112 canvas of 2 x 2 tiles; a slot is 7 x 3.5 pixels of the page
    image_processor = make_processor().image_processor
    y, x = 7 * 2 * 8 + 7 * 5 + 1, 3.5 * 4 * 3 + 3.5 * 2 + 1  # second row of tiles, patch (2, 3), slot (1, 2)
    targets = slot_targets(page_with(Glyph("Q", y, x)), image_processor, GRID)
    assert targets.shape == (5, 64, 8)
    assert (targets[0] == IGNORED).all()
    assert targets[1:].count_nonzero() == 1
    assert targets[3, 2 * 8 + 3, 1 * SLOTS[1] + 2] == CLASS_OF["Q"]


def test_slot_targets_follow_the_padding_of_the_canvas() -> None:
    # a wide page on the square canvas: padding above it, so its corner is not the canvas's
    image_processor = make_processor().image_processor
    plan = image_processor.plan(112, 200)
    assert plan.tile_grid == (2, 2)
    targets = slot_targets(page_with(Glyph("a", 0.0, 0.0), size=(200, 112)), image_processor, GRID)
    row = plan.content_box.top * 8 * SLOTS[0] // 56
    assert row > 0
    first_tile = targets[1].view(8, 8, *SLOTS).permute(0, 2, 1, 3).reshape(16, 32)
    assert first_tile.nonzero().tolist() == [[row, 0]]


def test_slot_targets_leave_out_what_was_rotated_off_the_page() -> None:
    targets = slot_targets(page_with(Glyph("a", -3.0, 5.0)), make_processor().image_processor, GRID)
    assert targets[1:].count_nonzero() == 0


def test_warm_up_learns_a_fixed_batch() -> None:
    processor = make_processor()
    model = make_model(processor)
    pages = WarmUpPages(processor.image_processor, GRID, 2, cap_heights=(9.0, 9.0), clean=True)
    batch = pages.collate([pages[0], pages[1]])
    warm_up = TowerWarmUp(model.model.vision_tower, 192).train()
    optimizer = torch.optim.AdamW(warm_up.parameters(), lr=2e-3)
    losses = []
    for _ in range(25):
        outputs = warm_up(**batch)
        optimizer.zero_grad()
        outputs["loss"].backward()
        optimizer.step()
        losses.append(outputs["loss"].item())
    assert losses[-1] < 0.75 * losses[0]
    assert all(parameter.grad is not None for parameter in model.model.vision_tower.parameters())


def test_warm_up_of_an_empty_page_is_finite() -> None:
    processor = make_processor()
    pages = WarmUpPages(processor.image_processor, GRID, 1)
    page = page_with()
    batch = pages.collate([{"image": page.image, "targets": slot_targets(page, pages.image_processor, GRID)}])
    warm_up = TowerWarmUp(make_model(processor).model.vision_tower, 192)
    outputs = warm_up(**batch)
    assert torch.isfinite(outputs["loss"])
    assert outputs["accuracy"] == 0
