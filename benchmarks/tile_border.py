# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""FILA's claim on one field: read inside of a tile and across its border, with a high-res tower that is cut there.

    python benchmarks/tile_border.py CHECKPOINT DATA [--output border.json] [--plot border.png]

Each page is shifted up or down by whole patches, so that one field's text lies on the line between two rows of tiles,
and again so that it lies in the middle of a tile. The same question is asked about both. Then the convolutions of the
high-res tower that look at neighbours are cut at the tiles' borders, as if each tile had been encoded alone; and, as
the control, half a tile beside them, where the other position lies. DATA has pages as `fila evaluate` takes them, of
the canvas's own size, with fields that have a `box`. Only fields whose text lies across the line count. Prints a
Markdown table; intervals are Wilson's, 95 %.
"""

import argparse
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from benchmarks.towers import shown
from fila.cli.ask import load_checkpoint
from fila.conversion.output import written_file
from fila.modeling.modeling_fila import FilaForConditionalGeneration
from fila.modeling.tower_convnext import ConvNextTower
from fila.training.data import Question, open_data, questions
from fila.training.evaluation import answer_questions

POSITIONS = ("in the middle of a tile", "across the border of two tiles")
CUTS = {"whole": None, "cut at the tiles' borders": 0.0, "cut half a tile beside them": 0.5}
MARGIN = 2  # pixels of the text's height that must lie on either side of the line


@contextmanager
def cut(model: FilaForConditionalGeneration, tile: int, offset: float | None) -> Iterator[None]:
    """Cut the high-res tower's convolutions at every `tile` pixels, `offset` tiles beside the canvas's edge."""
    tower = model.model.vision_tower.high_res_tower
    if not isinstance(tower, ConvNextTower):
        raise ValueError(f"The high-res tower must be a ConvNeXt, which has convolutions; got {type(tower).__name__}.")
    with ExitStack() as stack:
        for number, stage in enumerate(tower.encoder.stages, start=1):
            side = tile // tower.stride(number)
            for block in stage.layers:
                own = block.dwconv.forward
                block.dwconv.forward = cut_convolution(block.dwconv, side, offset) if offset is not None else own
                stack.callback(setattr, block.dwconv, "forward", own)
        yield


def cut_convolution(layer: nn.Conv2d, side: int, offset: float) -> Any:
    """Return the layer's forward over maps that are cut into cells of `side`, each padded with zeros."""
    from fila.modeling.tower_convnext import pack, unpack

    def pieces(length: int) -> list[int]:
        first = round(offset * side) or side
        cuts = [*range(first, length, side), length]
        return [end - start for start, end in zip([0, *cuts[:-1]], cuts, strict=True)]

    def convolve(features: torch.Tensor) -> torch.Tensor:
        rows = [
            torch.cat(
                [layer._conv_forward(cell, layer.weight, layer.bias) for cell in row.split(pieces(row.shape[3]), 3)], 3
            )
            for row in features.split(pieces(features.shape[2]), 2)
        ]
        return torch.cat(rows, 2)

    def forward(cells: torch.Tensor, shapes: Any) -> torch.Tensor:
        return pack(convolve(features) for features in unpack(cells, shapes))[0]

    return forward


def shifted(page: Image.Image, pixels: int) -> Image.Image:
    """Move a page's content down, or up; what comes in has the colour of its corner."""
    moved = Image.new(page.mode, page.size, page.getpixel((0, 0)))
    moved.paste(page, (0, pixels))
    return moved


def pairs(samples: Any, tile: int, patch: int) -> Iterator[tuple[Question, Question]]:
    """Yield each field in the middle of a tile, and across the border of two."""
    for asked in questions(samples[number] for number in range(len(samples))):
        _, top, _, bottom = (asked.field or {})["box"]
        with Image.open(asked.images[0]) as opened:
            page = opened.convert("RGB")
        if page.height % tile or page.height == tile:
            continue
        found = []
        for line in (tile // 2, tile):
            centre = (top + bottom) / 2
            lines = range(line, page.height, tile)
            nearest = min(lines, key=lambda at: abs(at - centre))
            shift = round((nearest - centre) / patch) * patch
            across = min(nearest - top - shift, bottom + shift - nearest) >= MARGIN
            found.append((shift, across and abs(shift) < tile))
        if all(fits for _, fits in found):
            yield tuple(  # type: ignore[misc]
                Question([shifted(page, shift)], asked.messages, asked.answer, asked.field, (), asked.sample)
                for shift, _ in found
            )


def measure(checkpoint: str, data: str, limit: int) -> dict[str, dict[str, list[bool]]]:
    """Return whether each answer is right, by cut and position."""
    model, processor = load_checkpoint(checkpoint, device="cpu", dtype="float32")
    tile, patches = model.config.high_res_tile_size, model.config.patch_grid[0]
    asked = list(islice(pairs(open_data(data, processor), tile, tile // patches), limit))
    if not asked:
        raise ValueError(f"{data} must have pages of at least two rows of tiles, and fields with a `box`; none fits.")
    found: dict[str, dict[str, list[bool]]] = {}
    for name, offset in CUTS.items():
        with cut(model, tile, offset):
            found[name] = {}
            for place, position in enumerate(POSITIONS):
                answers = answer_questions(
                    model, processor, [pair[place] for pair in asked], buckets={}, batch_size=16, max_new_tokens=40
                )
                found[name][position] = [answer.exact for answer in answers]
    return found


def draw(found: dict[str, dict[str, list[bool]]], path: Path) -> None:
    """Draw the shares as bars."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.5))
    for number, position in enumerate(POSITIONS):
        shares = [sum(rights[position]) / len(rights[position]) for rights in found.values()]
        places = [at + 0.4 * number - 0.2 for at in range(len(found))]
        bars = axes.bar(places, shares, 0.4, label=position)
        axes.bar_label(bars, [f"{share:.0%}" for share in shares])
    axes.set_xticks(range(len(found)), [f"high-res tower {name}" for name in found], fontsize=8)
    axes.set_ylim(0, 1.1)
    axes.set_ylabel("exact match")
    axes.legend(loc="upper right")
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint")
    parser.add_argument("data")
    parser.add_argument("--limit", type=int, default=400, help="fields to ask about")
    parser.add_argument("--output", type=Path, help="JSON with whether each answer is right")
    parser.add_argument("--plot", type=Path, help="PNG of the shares")
    given = parser.parse_args()
    found = measure(given.checkpoint, given.data, given.limit)
    if given.output:
        with written_file(given.output) as partial:
            partial.write_text(json.dumps(found), encoding="utf-8")
    if given.plot:
        draw(found, given.plot)
    print(f"| high-res tower | {' | '.join(POSITIONS)} |\n|---|---|---|")
    for name, rights in found.items():
        print(f"| {name} | {' | '.join(shown(rights[position]) for position in POSITIONS)} |")
    print(f"\n{len(found[next(iter(CUTS))][POSITIONS[0]])} fields in each cell.")


if __name__ == "__main__":
    main()
