# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Warm towers up from random weights: say which character stands where, for every image token.

A language model's loss tells random towers little: one right letter in an answer, by way of everything between. The
pages know where each letter lies, so every token can be asked directly: of the slots of its patch, which holds the
centre of a character, and which character? On dense pages that is several hundred answers per image.

No source; the pretrained towers that FILA starts from need nothing of the kind.
"""

import math
import string
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from .page_fonts import DEFAULT_FACES, Face
from .pages import Page, dense_text, make_page

SLOTS = (2, 4)  # rows and columns of a patch; a slot is narrower than the letters of small print
CHARACTERS = string.digits + string.ascii_letters + string.punctuation
CLASS_OF = {character: number for number, character in enumerate(CHARACTERS, start=1)}  # 0: nothing
IGNORED = -100


def slot_targets(page: Page, image_processor: Any, grid: tuple[int, int]) -> torch.Tensor:
    """Tell the character of every slot of every view.

    Args:
        page: The page.
        image_processor: Whose canvas the page is laid on; its tiles are equal and do not overlap.
        grid: Patches of a tile, (rows, cols).

    Returns:
        `(views, patches, slots)`: numbers of `CLASS_OF`, 0 where nothing is written, -100 in the overview.
    """
    plan = image_processor.plan(page.image.height, page.image.width)
    rows, cols = (tiles * patches * slots for tiles, patches, slots in zip(plan.tile_grid, grid, SLOTS, strict=True))
    slots = torch.zeros(rows, cols, dtype=torch.long)
    content = plan.content_box
    scale_y = content.size.height / page.image.height * rows / plan.canvas_size.height
    scale_x = content.size.width / page.image.width * cols / plan.canvas_size.width
    first_y, first_x = content.top * rows / plan.canvas_size.height, content.left * cols / plan.canvas_size.width
    for glyph in page.glyphs:
        row, col = math.floor(first_y + glyph.y * scale_y), math.floor(first_x + glyph.x * scale_x)
        if 0 <= row < rows and 0 <= col < cols:
            slots[row, col] = CLASS_OF[glyph.character]
    tile_rows, tile_cols = plan.tile_grid
    tiles = slots.view(tile_rows, grid[0], SLOTS[0], tile_cols, grid[1], SLOTS[1]).permute(0, 3, 1, 4, 2, 5)
    tiles = tiles.reshape(plan.num_tiles, grid[0] * grid[1], SLOTS[0] * SLOTS[1])
    overviews = tiles.new_full((plan.num_views - plan.num_tiles, *tiles.shape[1:]), IGNORED)
    return torch.cat([overviews, tiles])


class WarmUpPages(Dataset[dict[str, Any]]):
    """Pages with the characters of their slots; three of four are dense.

    Args:
        image_processor: Of the model.
        grid: Patches of a tile, (rows, cols).
        count: How many pages.
        split: "train" or "test".
        faces: Fonts of the split.
        first_seed: Seed of the first page.
        options: Of `make_page`.
    """

    def __init__(
        self,
        image_processor: Any,
        grid: tuple[int, int],
        count: int,
        *,
        split: str = "train",
        faces: Sequence[Face] = DEFAULT_FACES,
        first_seed: int = 0,
        **options: Any,
    ) -> None:
        self.image_processor = image_processor
        self.grid = grid
        self.count = count
        self.split = split
        self.first_seed = first_seed
        self.options = {**options, "faces": faces}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        layout = dense_text if index % 4 else None
        page = make_page(self.first_seed + index, self.split, self.image_processor, layout=layout, **self.options)
        return {"image": page.image, "targets": slot_targets(page, self.image_processor, self.grid)}

    def collate(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Make a batch: the image tensors, and `labels` `(real views, patches, slots)`."""
        images = self.image_processor(images=[sample["image"] for sample in samples], return_tensors="pt")
        return {**images, "labels": torch.cat([sample["targets"] for sample in samples])}


class TowerWarmUp(nn.Module):
    """A vision tower with a head that names characters; works with transformers' Trainer.

    Args:
        vision_tower: A `FilaVisionModel`; its weights are trained.
        width: Channels of its output.
    """

    def __init__(self, vision_tower: nn.Module, width: int) -> None:
        super().__init__()
        self.vision_tower = vision_tower
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, SLOTS[0] * SLOTS[1] * (1 + len(CHARACTERS))))

    def forward(self, labels: torch.Tensor, **images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Name the characters.

        Args:
            labels: `(real views, patches, slots)`.
            images: Image tensors of the processor.

        Returns:
            `loss`: the mean over written slots plus the mean over blank ones, or blanks, which are most, would drown
            the letters. `accuracy`: share of the written slots whose character is the best of all characters.
        """
        features = self.vision_tower(**images).last_hidden_state
        asked = labels != IGNORED
        logits = self.head(features).unflatten(-1, (-1, 1 + len(CHARACTERS)))[asked]
        targets = labels[asked]
        losses = F.cross_entropy(logits, targets, reduction="none")
        written = targets > 0
        right = logits[written][:, 1:].argmax(-1) + 1 == targets[written]
        # sums and not means: a batch may have no written slot
        loss = losses[written].sum() / written.sum().clamp(min=1) + losses[~written].sum() / (~written).sum().clamp(
            min=1
        )
        return {"loss": loss, "accuracy": right.sum() / written.sum().clamp(min=1)}
