# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Ask the image tokens for the characters in their patches while a model learns to answer.

Answers tell the towers about the few characters asked for; the pages know where every character lies. A linear
head reads the first `RANKS` characters of each patch from its image token, and its loss is added to that of the
answers. The head is no part of the model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers.trainer_callback import TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from fila.processing.canvas_plan import CanvasPlan
from fila.training.collator import FilaCollator
from fila.training.page_sheet import Glyph
from fila.training.trainer import FilaTrainer

from .character_tokens import RANKS, placed
from .warm_up import FINE, per_patch, slot_loss

HEAD = "telling.pt"


def patch_characters(
    glyphs: Sequence[Glyph],
    size: tuple[int, int],
    plan: CanvasPlan,
    grid: tuple[int, int],
    class_of: Mapping[str, int],
) -> torch.Tensor:
    """Return the characters of the patch of each image token.

    Args:
        glyphs: Characters of the image.
        size: Pixels of the image, (height, width).
        plan: Its `CanvasPlan`; tiles are equal and do not overlap.
        grid: Patches of a tile, (rows, cols).
        class_of: The number of each character, from 1.

    Returns:
        `(tokens, RANKS)` int64 in the order of the views: numbers of `class_of` in reading order, 0 where nothing is
        written, -100 for the overview's tokens.
    """
    rows, cols = (tiles * patches * slots for tiles, patches, slots in zip(plan.tile_grid, grid, FINE, strict=True))
    slots = torch.zeros(1, rows, cols, dtype=torch.long)
    for glyph, y, x in placed(glyphs, size, plan, (rows, cols)):
        if 0 <= y < rows and 0 <= x < cols:
            slots[0, int(y), int(x)] = class_of.get(glyph.character, 0)
    (tile_rows, tile_cols), (height, width) = plan.tile_grid, grid
    told = per_patch(slots)[0].view(tile_rows, height, tile_cols, width, RANKS).transpose(1, 2).flatten(0, 3)
    overview = told.new_full(((plan.num_views - plan.num_tiles) * height * width, RANKS), -100)
    return torch.cat([overview, told])


@dataclass
class TellingCollator(FilaCollator):
    """Collator that adds `characters`, `(tokens of all images, RANKS)`, see `patch_characters`."""

    class_of: Mapping[str, int] | None = None
    grid: tuple[int, int] = (8, 8)

    def __call__(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Collate samples of one page each that have `glyphs`."""
        batch = super().__call__(samples)
        plans = self.processor.image_processor.plan
        told = []
        for sample in samples:
            (image,) = sample["images"]
            size = (image.height, image.width)
            told.append(patch_characters(sample["glyphs"], size, plans(*size), self.grid, self.class_of or {}))
        return {**batch, "characters": torch.cat(told)}


class TellingTrainer(FilaTrainer):
    """Trainer that adds the head's loss; the head is trained at the highest rate and saved beside the checkpoints.

    Args:
        weight: Weight of the head's loss.
    """

    def __init__(self, *args: Any, weight: float, num_classes: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        model = cast(Any, self.model)
        width = model.config.text_config.hidden_size
        self.weight, self.num_classes = weight, num_classes
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, RANKS * num_classes))
        kept = Path(cast(str, self.args.output_dir)) / HEAD
        if kept.is_file():
            self.head.load_state_dict(torch.load(kept, weights_only=True))
        self.optimizer_of_head = torch.optim.AdamW(self.head.parameters(), lr=1e-3)
        self.tokens: torch.Tensor | None = None
        self.told: list[float] = []
        model.model.multi_modal_projector.register_forward_hook(self._keep)
        self.add_callback(_StepOfHead(self))

    def _keep(self, module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        self.tokens = output

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Add the head's loss to that of the answers."""
        characters = inputs.pop("characters", None)
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if characters is None or return_outputs:
            return loss
        assert self.tokens is not None
        tokens, self.tokens = self.tokens.flatten(0, -2), None
        shown = characters[:, 0] >= 0
        logits = self.head(tokens[shown]).unflatten(-1, (RANKS, self.num_classes))
        told, accuracy = slot_loss(logits, characters[shown])
        self.told.append(float(accuracy))
        return cast(torch.Tensor, loss) + self.weight * told

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log the share of written characters that the head names right, too."""
        if self.told:
            logs["told"] = sum(self.told) / len(self.told)
            self.told = []
        super().log(logs, *args, **kwargs)


class _StepOfHead(TrainerCallback):
    """Steps the head's optimizer with the model's, and saves the head with every checkpoint."""

    def __init__(self, trainer: TellingTrainer) -> None:
        self.trainer = trainer

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.trainer.optimizer_of_head.step()
        self.trainer.optimizer_of_head.zero_grad()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        torch.save(self.trainer.head.state_dict(), Path(cast(str, args.output_dir)) / HEAD)
