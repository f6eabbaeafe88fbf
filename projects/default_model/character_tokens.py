# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Target content of an image token: the characters in its patch, in reading order.

A character on the edge of two patches belongs to both, by shares. If it belonged to one patch, a tiny shift would
change the patch, and no tower could learn that. With shares that change with the character's position, both tokens
are continuous functions of the page. The order is continuous too: a character's rank is the sum of the shares before
it, and a fractional rank is between two whole ranks. If lines are distinguished, ranks count the characters of one
line, and the token also holds the height of a character in its patch.

No source.
"""

import math
import string
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from fila.processing.canvas_plan import CanvasPlan
from fila.training.page_sheet import Glyph

CHARACTERS = string.digits + string.ascii_letters + string.punctuation
CLASS_OF = {character: number for number, character in enumerate(CHARACTERS, start=1)}  # 0: nothing
CLASSES = 1 + len(CHARACTERS)
RANKS = 4  # characters of a patch that are told apart, in reading order
TOLD = 6  # shares of characters that a patch tells at most
LINE_GAP = 0.35  # patches between two lines, at least
TRAITS = 4  # of a share: class, share, rank, lowness
_WHOLE, _PER_RANK = 255, 32  # shares and ranks are kept in bytes


class _Told(NamedTuple):
    """A character in one patch: its place in patches, y from its top; its class; its share along both axes."""

    y: float
    x: float
    number: int
    share_y: float
    share_x: float


def shares(position: float, blend: float) -> list[tuple[int, float]]:
    """Return the patches along one axis that a point belongs to, and its share in each.

    Args:
        position: In patches.
        blend: So far from an edge, in patches, a point belongs to both sides; 0 to 0.5.

    Returns:
        One or two (patch, share); shares add up to 1.

    Example:
        >>> shares(2.5, 0.1), shares(3.0, 0.1)
        ([(2, 1.0)], [(2, 0.5), (3, 0.5)])
    """
    edge = math.floor(position + 0.5)
    beyond = position - edge
    if abs(beyond) >= blend:
        return [(math.floor(position), 1.0)]
    right = 0.5 + beyond / (2 * blend)
    return [(edge - 1, 1 - right), (edge, right)]


def placed(
    glyphs: Iterable[Glyph], image_size: tuple[int, int], plan: CanvasPlan, cells: tuple[int, int]
) -> Iterator[tuple[Glyph, float, float]]:
    """Yield each character with its (y, x) on the canvas, in units of the cells of a grid."""
    content, canvas = plan.content_box, plan.canvas_size
    scale_y = content.size.height / image_size[0] * cells[0] / canvas.height
    scale_x = content.size.width / image_size[1] * cells[1] / canvas.width
    first_y, first_x = content.top * cells[0] / canvas.height, content.left * cells[1] / canvas.width
    for glyph in glyphs:
        yield glyph, first_y + glyph.y * scale_y, first_x + glyph.x * scale_x


def spell(
    glyphs: Iterable[Glyph],
    image_size: tuple[int, int],
    plan: CanvasPlan,
    grid: tuple[int, int],
    blend: float,
    *,
    lines: bool = False,
) -> torch.Tensor:
    """Return the characters in the patch of each image token.

    Args:
        glyphs: Characters of the image.
        image_size: Pixels of the image, (height, width).
        plan: Its `CanvasPlan`; tiles are equal and do not overlap.
        grid: Patches of a tile, (rows, cols).
        blend: See `shares`.
        lines: Whether to distinguish the lines of a patch. Otherwise all its characters are counted together.

    Returns:
        `(tokens, TOLD, TRAITS)` uint8, in the order of the tokens: the number in `CLASS_OF`, 0 for nothing; its share
        times 255; its rank times 32; how low it stands times 255. An overview's tokens tell nothing.
    """
    rows, cols = (tiles * patches for tiles, patches in zip(plan.tile_grid, grid, strict=True))
    patches: dict[tuple[int, int], list[_Told]] = defaultdict(list)
    for glyph, y, x in placed(glyphs, image_size, plan, (rows, cols)):
        for row, share_y in shares(y, blend):
            for col, share_x in shares(x, blend):
                if 0 <= row < rows and 0 <= col < cols:
                    patches[row, col].append(_Told(y - row, x, CLASS_OF[glyph.character], share_y, share_x))
    told = torch.zeros(rows, cols, TOLD, TRAITS, dtype=torch.uint8)
    for place, characters in patches.items():
        entries = _ranked(characters, lines)[:TOLD]
        told[place][: len(entries)] = torch.tensor(entries, dtype=torch.uint8)
    (tile_rows, tile_cols), (height, width) = plan.tile_grid, grid
    tiles = told.view(tile_rows, height, tile_cols, width, TOLD, TRAITS).transpose(1, 2).flatten(0, 3)
    return torch.cat([tiles.new_zeros((plan.num_views - plan.num_tiles) * height * width, TOLD, TRAITS), tiles])


def _ranked(characters: list[_Told], tell_lines: bool) -> list[tuple[int, int, int, int]]:
    """Return class, share, rank and lowness in bytes, in reading order."""
    lines: list[list[_Told]] = []
    for each in sorted(characters):
        if lines and each.y - lines[-1][-1].y < LINE_GAP:
            lines[-1].append(each)
        else:
            lines.append([each])
    entries, of_lines_before = [], 0.0
    for line in lines:
        rank = 0.0 if tell_lines else of_lines_before
        for each in sorted(line, key=lambda told: told.x):
            share = each.share_y * each.share_x
            low = min(max(2 * each.y - 0.5, 0.0), 1.0) if tell_lines else 0.0
            turns = round(min(rank, RANKS - 1) * _PER_RANK), round(low * _WHOLE)
            entries.append((each.number, round(share * _WHOLE), *turns))
            rank += each.share_x
            of_lines_before += share
    return entries


class SpelledTokens(nn.Module):
    """Module that makes image tokens from the language model's embeddings of their characters.

    Args:
        embedding: The language model's input embedding; shared, and not saved with this module.
        tokenizer: Has a token for every character.
    """

    def __init__(self, embedding: nn.Embedding, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__()
        width = embedding.embedding_dim
        self.shared = [embedding]  # in a list: no child
        self.register_buffer("ids", torch.tensor(tokenizer.convert_tokens_to_ids(list(CHARACTERS))), persistent=False)
        self.turns = nn.Parameter(torch.stack([nn.init.orthogonal_(torch.empty(width, width)) for _ in range(RANKS)]))
        # near to none: a language model that was never told of lines reads on
        skew = torch.randn(width, width) / (2 * width) ** 0.5
        self.lower = nn.Parameter(torch.linalg.matrix_exp(0.5 * (skew - skew.T)))
        self.base = nn.Parameter(torch.randn(width) * 0.1)
        self.norm = nn.LayerNorm(width)

    def forward(self, spelling: torch.Tensor) -> torch.Tensor:
        """`spell`'s `(tokens, TOLD, TRAITS) -> (tokens, M)`."""
        ids: Any = self.ids
        letters = F.normalize(self.shared[0].weight[ids], dim=-1) * 8
        turned = torch.einsum("cm,smn->scn", letters, self.turns)
        table = F.pad(torch.stack([turned, turned @ self.lower]), (0, 0, 1, 0))  # a blank adds nothing
        numbers, share, rank, low = spelling.unbind(-1)
        share, rank, low = share / _WHOLE, rank / _PER_RANK, low / _WHOLE
        floor = rank.floor().long()
        rows, weights = [], []
        for turn, of_rank in ((floor, 1 - (rank - floor)), ((floor + 1).clamp(max=RANKS - 1), rank - floor)):
            for line, of_line in ((0, 1 - low), (1, low)):
                rows.append(numbers + (line * RANKS + turn) * CLASSES)
                weights.append(share * of_rank * of_line)
        flat = table.flatten(0, 2)
        summed = F.embedding_bag(torch.cat(rows, -1), flat, per_sample_weights=torch.cat(weights, -1), mode="sum")
        tokens: torch.Tensor = self.norm(summed + self.base)
        return tokens
