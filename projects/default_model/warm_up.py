# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Warm the parts up from random weights, each on its own, before a language model's loss has to go through all.

The language model's loss tells random towers little: one right letter of an answer, by way of everything between. The
pages know where each letter lies, so the parts can be asked directly. Each patch of the canvas is a grid of slots; a
slot holds the character whose centre lies in it, or nothing.

- `TowerWarmUp`: the high-res tower names the character of every slot, from two early stages, and the characters of
  every patch in reading order, from its last.
- `LanguageWarmUp`: the language model learns to find and copy on pages that are spelled to it: an image token is a sum
  over its characters of the character's embedding turned by a matrix of its rank, and of its line.
- `ConnectorWarmUp`: low-res tower, fusion and connector learn to make such tokens out of what the high-res tower sees.

No source; the pretrained parts that FILA starts from need nothing of the kind.
"""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from PIL import Image, ImageChops
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase, Trainer

from fila.modeling.modeling_fila import FilaForConditionalGeneration
from fila.processing.canvas_plan import CanvasPlan
from fila.processing.image_input import load_images
from fila.processing.processing_fila import FilaProcessor
from fila.training.collator import FilaCollator
from fila.training.page_files import read_glyphs
from fila.training.page_sheet import Glyph

from .character_tokens import CLASS_OF, CLASSES, RANKS, SpelledTokens, placed, spell

FINE = (4, 8)  # rows and columns of slots of a patch: narrower than the narrowest letter


def slot_targets(
    glyphs: Iterable[Glyph], image_size: tuple[int, int], plan: CanvasPlan, grid: tuple[int, int]
) -> torch.Tensor:
    """Return the character in each slot of the canvas.

    Args:
        glyphs: Characters of the image.
        image_size: Pixels of the image, (height, width).
        plan: Its `CanvasPlan`; tiles are equal and do not overlap.
        grid: Patches of a tile, (rows, cols).

    Returns:
        `(rows of slots, columns of slots)` of the canvas: numbers of `CLASS_OF`, 0 where nothing is written.
    """
    rows, cols = (tiles * patches * slots for tiles, patches, slots in zip(plan.tile_grid, grid, FINE, strict=True))
    slots = torch.zeros(rows, cols, dtype=torch.long)
    for glyph, y, x in placed(glyphs, image_size, plan, (rows, cols)):
        row, col = math.floor(y), math.floor(x)
        if 0 <= row < rows and 0 <= col < cols:
            slots[row, col] = CLASS_OF[glyph.character]
    return slots


def per_cell(slots: torch.Tensor, cells: int) -> torch.Tensor:
    """Return the slots of each cell of an early map.

    Args:
        slots: `(canvases, rows of slots, columns of slots)`.
        cells: Cells per patch and side, 2 or 4. With 2, two rows of slots become one: a cell holds one line.

    Returns:
        `(canvases, rows of cells, columns of cells, slots)`, slots from left to right.
    """
    count, rows, cols = slots.shape
    merged = FINE[0] // cells
    slots = slots.view(count, rows // merged, merged, cols).amax(2)  # of two characters in one slot one stays
    return slots.unflatten(2, (-1, FINE[1] // cells))


def per_patch(slots: torch.Tensor) -> torch.Tensor:
    """Return the characters of each patch.

    Args:
        slots: `(canvases, rows of slots, columns of slots)`.

    Returns:
        `(canvases, rows of patches, columns of patches, RANKS)`: the first characters of each patch in reading order,
        two lines at most, then zeros.
    """
    count, rows, cols = slots.shape
    lines = slots.view(count, rows // 2, 2, cols).amax(2)
    patches = lines.view(count, rows // FINE[0], 2, cols // FINE[1], FINE[1]).transpose(2, 3).flatten(3)
    order = (patches == 0).to(torch.uint8).sort(dim=-1, stable=True).indices  # what is written first, in its order
    return patches.gather(-1, order)[..., :RANKS]


def jitter(image: Image.Image, glyphs: Sequence[Glyph], rng: Random, *, shift: float) -> tuple[Any, list[Glyph]]:
    """Move a page by up to `shift` of its width, invert it and reduce its contrast, to make a new page."""
    most = shift * image.width
    x, y = rng.uniform(-most, most), rng.uniform(-most, most)
    paper = image.getpixel((1, 1))
    image = image.transform(image.size, Image.Transform.AFFINE, (1, 0, -round(x), 0, 1, -round(y)), fillcolor=paper)
    if rng.random() < 0.3:
        image = ImageChops.invert(image)
    faded = rng.uniform(0.0, 0.4)
    image = Image.blend(image, Image.new("RGB", image.size, (127, 127, 127)), faded)
    return image, [Glyph(each.character, each.y + round(y), each.x + round(x)) for each in glyphs]


class GlyphPages(Dataset[dict[str, Any]]):
    """Pages of `write_pages` with the characters of their slots, jittered anew each time around.

    Args:
        paths: Files of pages.
        processor: A `FilaProcessor`.
        times: How often to go around.
        shift: See `jitter`; 0 leaves pages as they are.
        blend: See `spelling.shares`.
        lines: See `spelling.spell`.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        processor: FilaProcessor,
        *,
        times: int = 1,
        shift: float = 0.03,
        blend: float = 0.0,
        lines: bool = False,
    ) -> None:
        self.lines = [(path.parent, line) for path in paths for line in path.read_text("utf-8").splitlines()]
        self.image_processor = processor.image_processor
        self.times, self.shift, self.blend, self.tell_lines = times, shift, blend, lines
        side = math.isqrt(processor.tokens_per_tile)
        self.grid = (side, side)

    def __len__(self) -> int:
        return len(self.lines) * self.times

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        folder, line = self.lines[index % len(self.lines)]
        sample = json.loads(line)
        (image,) = load_images([str(folder / name) for name in sample["images"]])
        glyphs: list[Glyph] = read_glyphs(sample)
        if self.shift:
            image, glyphs = jitter(image, glyphs, Random(f"jitter {index}"), shift=self.shift)
        size = (image.height, image.width)
        plan = self.image_processor.plan(*size)
        return {"image": image, "plan": plan, "size": size, "glyphs": glyphs}

    def canvases(self, samples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Collate for `TowerWarmUp`; all canvases are of one size.

        Returns:
            `canvases` `(N, 3, H, W)` and `slots` `(N, rows, columns)`.
        """
        images = self.image_processor(images=[sample["image"] for sample in samples], return_tensors="pt")
        return {
            "canvases": images["high_res_pixel_values"],
            "slots": torch.stack(
                [slot_targets(each["glyphs"], each["size"], each["plan"], self.grid) for each in samples]
            ),
        }

    def images(self, samples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Collate for `ConnectorWarmUp`.

        Returns:
            The processor's tensors and `spelling` `(tokens of all images, TOLD, TRAITS)`.
        """
        images = self.image_processor(images=[sample["image"] for sample in samples], return_tensors="pt")
        told = [self.spell(each["glyphs"], each["size"], each["plan"]) for each in samples]
        return {**images, "spelling": torch.cat(told)}

    def spell(self, glyphs: Iterable[Glyph], size: tuple[int, int], plan: CanvasPlan) -> torch.Tensor:
        """`spelling.spell` with the options of these pages."""
        return spell(glyphs, size, plan, self.grid, self.blend, lines=self.tell_lines)


class SpelledPages(Dataset[dict[str, Any]]):
    """Dataset of conversations about pages, with the characters of every image token; samples are cached.

    Args:
        path: A file of pages.
        processor: A `FilaProcessor`.
        answers_only: Whether only the answers are supervised. Else all text is, questions too: to foretell how a label
            goes on is to find it on the page.
        blend: See `spelling.shares`.
        lines: See `spelling.spell`.
    """

    def __init__(
        self,
        path: Path,
        processor: FilaProcessor,
        *,
        answers_only: bool = False,
        blend: float = 0.0,
        lines: bool = False,
    ) -> None:
        self.answers_only = answers_only
        self.pages = GlyphPages([path], processor, shift=0, blend=blend, lines=lines)
        self.collate_one = FilaCollator(processor)
        self.pad, self.image_token_id = processor.tokenizer.pad_token_id, processor.image_token_id
        self.made: dict[int, dict[str, torch.Tensor]] = {}

    def __len__(self) -> int:
        return len(self.pages)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if index not in self.made:
            folder, line = self.pages.lines[index]
            sample = json.loads(line)
            with Image.open(folder / sample["images"][0]) as image:
                size = (image.height, image.width)
            # the tokens depend on the size of the image alone
            batch = self.collate_one([{"messages": sample["messages"], "images": [Image.new("RGB", size[::-1])]}])
            plan = self.pages.image_processor.plan(*size)
            ids = batch["input_ids"][0]
            labels = batch["labels"][0] if self.answers_only else ids.masked_fill(ids == self.image_token_id, -100)
            # small types: all samples stay in memory
            self.made[index] = {
                "input_ids": ids.to(torch.int32),
                "labels": labels.to(torch.int32),
                "spelling": self.pages.spell(read_glyphs(sample), size, plan),
            }
        return self.made[index]

    def collate(self, samples: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Collate for `LanguageWarmUp`.

        Returns:
            `input_ids` and `labels` `(B, L)`, padded on the right, and `spelling` `(image tokens, TOLD, TRAITS)`.
        """
        from torch.nn.utils.rnn import pad_sequence

        ids = [sample["input_ids"].long() for sample in samples]
        labels = [sample["labels"].long() for sample in samples]
        return {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=self.pad),
            "labels": pad_sequence(labels, batch_first=True, padding_value=-100),
            "spelling": torch.cat([sample["spelling"] for sample in samples]),
        }


def slot_loss(logits: torch.Tensor, slots: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cross entropy and the accuracy of characters.

    Args:
        logits: `(..., CLASSES)`.
        slots: `(...)`.

    Returns:
        The mean over written slots plus the mean over blank ones, or blanks, which are most, would drown the letters;
        and the share of the written slots whose character is the best of all characters.
    """
    logits, slots = logits.flatten(0, -2), slots.flatten()
    losses = F.cross_entropy(logits, slots, reduction="none")
    written = slots > 0
    # sums and not means: a batch may have no written slot
    num_written, num_blank = written.sum().clamp(min=1), (~written).sum().clamp(min=1)
    loss = (losses * torch.where(written, 1 / num_written, 1 / num_blank)).sum()
    with torch.no_grad():
        right = (logits[:, 1:].argmax(-1) + 1 == slots) & written
    return loss, right.sum() / num_written


class TowerWarmUp(nn.Module):
    """A ConvNeXt tower with heads that name characters; works with transformers' Trainer.

    The heads of earlier stages teach them directly; without, the first hundreds of steps teach nothing.

    Args:
        tower: A `ConvNextTower` of four stages, the last of which has the patch grid; its weights are trained.
    """

    EARLY = {1: 4, 2: 2}  # noqa: RUF012  stage, from 0, to its cells per patch and side

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower
        config: Any = tower.config
        answers = [FINE[1] // cells for cells in self.EARLY.values()] + [RANKS]
        self.heads = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, count * CLASSES))
            for width, count in zip(config.hidden_sizes[1:], answers, strict=True)
        )

    def forward(self, canvases: torch.Tensor, slots: torch.Tensor) -> dict[str, torch.Tensor]:
        """Name the characters.

        Args:
            canvases: `(N, 3, H, W)`.
            slots: `(N, rows, columns)`.

        Returns:
            `loss`, summed over the stages, and `accuracy` of the last one.
        """
        tower: Any = self.tower
        maps = tower.run_stages(tower.embed(canvases), 0, 1)
        total, accuracy = torch.zeros(()), torch.zeros(())
        for stage, head in enumerate(self.heads, start=1):
            maps = tower.run_stages(maps, stage, stage + 1)
            logits = head(maps.permute(0, 2, 3, 1)).unflatten(-1, (-1, CLASSES))
            asked = per_cell(slots, self.EARLY[stage]) if stage in self.EARLY else per_patch(slots)
            loss, accuracy = slot_loss(logits, asked)
            total = total + loss
        return {"loss": total, "accuracy": accuracy}


class LanguageWarmUp(nn.Module):
    """A language model that is asked about spelled pages; works with transformers' Trainer.

    Args:
        model: A `FilaForConditionalGeneration` whose head is its input embedding; its language model is trained.
        tokenizer: Its tokenizer.
    """

    def __init__(self, model: FilaForConditionalGeneration, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__()
        self.language_model = model.model.language_model
        self.spelled = SpelledTokens(self.language_model.embed_tokens, tokenizer)
        self.image_token_id = model.config.image_token_id

    def forward(
        self, input_ids: torch.Tensor, labels: torch.Tensor, spelling: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Answer.

        Args:
            input_ids: `(B, L)`, padded on the right.
            labels: `(B, L)`.
            spelling: `(image tokens, TOLD, TRAITS)`.

        Returns:
            `loss`, and `accuracy` of the supervised tokens.
        """
        embedding = self.language_model.embed_tokens
        embedded = embedding(input_ids)
        is_image = (input_ids == self.image_token_id)[..., None]
        embedded = embedded.masked_scatter(is_image, self.spelled(spelling).to(embedded.dtype))
        # causal attention never looks at padding on the right
        hidden = self.language_model(inputs_embeds=embedded, use_cache=False).last_hidden_state[:, :-1]
        supervised = labels[:, 1:] != -100
        logits, targets = F.linear(hidden[supervised], embedding.weight), labels[:, 1:][supervised]
        with torch.no_grad():
            accuracy = (logits.argmax(-1) == targets).float().mean()
        return {"loss": F.cross_entropy(logits, targets), "accuracy": accuracy}


class ConnectorWarmUp(nn.Module):
    """A model whose image tokens are compared with spelled ones; works with transformers' Trainer.

    Args:
        model: A `FilaForConditionalGeneration`; its vision tower and connector are trained, but for what is frozen.
        spelled: What the language model learnt to read; frozen here.
    """

    def __init__(self, model: FilaForConditionalGeneration, spelled: SpelledTokens) -> None:
        super().__init__()
        self.vision_tower = model.model.vision_tower
        self.connector = model.model.multi_modal_projector
        self.spelled = spelled.requires_grad_(False)

    def forward(self, spelling: torch.Tensor, **images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compare.

        Args:
            spelling: `(image tokens, TOLD, TRAITS)`.
            images: Image tensors of the processor.

        Returns:
            `loss`: mean squared difference, over tokens where something is written plus over blank ones. `accuracy`:
            the share of the written tokens' variance that is explained.
        """
        features = self.vision_tower(**images).last_hidden_state
        tokens = self.connector(features, self.vision_tower.fusion.output_grid).flatten(0, -2)
        with torch.no_grad():
            target = self.spelled(spelling)
        error = (tokens - target).square().mean(-1)
        written = (spelling[..., 0] > 0).any(-1)
        num_written, num_blank = written.sum().clamp(min=1), (~written).sum().clamp(min=1)
        of_written = (error * written).sum() / num_written
        with torch.no_grad():
            spread = target[written].var(0, unbiased=False).mean() if written.any() else error.new_ones(())
        return {"loss": of_written + (error * ~written).sum() / num_blank, "accuracy": 1 - of_written / spread}


class WarmUpTrainer(Trainer):
    """Trainer that logs `accuracy` beside the loss."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._accuracies: list[torch.Tensor] = []

    def compute_loss(  # type: ignore[override]
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **kwargs: Any
    ) -> torch.Tensor | tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Trainer's."""
        outputs = model(**inputs)
        self._accuracies.append(outputs["accuracy"].detach())
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

    def log(self, logs: dict[str, float], *args: float | None, **kwargs: float | None) -> None:
        """Trainer's, with the mean accuracy since the last time."""
        if "loss" in logs and self._accuracies:
            logs["accuracy"] = round(torch.stack(self._accuracies).mean().item(), 4)
            self._accuracies.clear()
        super().log(logs, *args, **kwargs)
