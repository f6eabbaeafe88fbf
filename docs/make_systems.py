# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Write docs/systems.md and its pictures: one section per recipe, out of the recipe and of what its processor plans.

python docs/make_systems.py docs
"""

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from fila import FilaConfig
from fila.conversion.systems import SYSTEMS
from fila.processing.layout import NEWLINE, SEPARATOR, Piece, lay_out
from fila.systems.recipes import Recipe, load_recipe, processor, recipe_names, tower_names

IMAGE_SIZE = 600, 900  # height, width: two by three tiles where a system may choose
TILE, OVERVIEW, PADDING, INK, PAPER = "#f6c89f", "#9fd0d6", "#e3e6e9", "#16202a", "#ffffff"
WIDTH = 720
PLACEHOLDER = "<placeholder>"

HEAD = """# Systems

Each system below is one recipe: data in `fila/systems/recipe_files/`, listed by `fila recipes`, shown by
`fila recipes NAME`.
`FilaConfig.from_recipe(NAME)` makes a config; `low_res=`, `high_res=` and `text=` replace towers or the language
model. [add_a_recipe.md](add_a_recipe.md) describes how to add a recipe.

```console
fila import path/to/llava-v1.6-vicuna-7b-hf --system llava-next --output my-llava
fila verify my-llava
fila ask my-llava page.png "What is the total?"
fila export my-llava --output back --original path/to/llava-v1.6-vicuna-7b-hf
```

`fila import` reads checkpoints in the original's own names, safetensors or pickles of weights alone: a folder, or a
Hub id. `fila export` writes them back, trained since or not; it needs `--original SRC` if the
import dropped tensors.
Every tensor is renamed, transformed, split, or left behind with a reason that the model card repeats; a tensor that is
left over is an error. Without `--recipe`, `fila import` uses the system's first recipe that fits the weights.
Sizes come from the recipe and from the original's config.json, if it has them; `--low-res`, `--high-res`, `--text`,
`--config` and `--image-processor` take JSON for settings that neither has.

The tokenizer must load without remote code. If the original's does not (InternLM2's, in InternVL and LEO),
`--tokenizer` names a folder or Hub id with a tokenizer.json. If the original was saved without a frozen tower,
`--low-res-weights` and `--high-res-weights` name a checkpoint of that tower in transformers' names. Where no model of
transformers is the original's language model (DeepSeek-OCR's), `--text-weights` names another one of its width.

The pictures show the processor's plan for an image of {height} x {width} pixels (height x width): its views,
numbered in the order of the tensors, and below them the prompt, with the number of image tokens of each view. Grey is
padding.

Tests check that transformers' own LLaVA-NeXT, InternVL and MiniCPM-V 4.6, tiny and random, give the same logits after
import, for images and text, without any difference. LLaVA-HR's recorded towers, imported, give the recorded features.
For every system the key templates give the recorded keys and shapes at real sizes. For every system a tiny original
imports without leftovers, answers, and is exported unchanged. No released checkpoint was available.

To train an imported checkpoint, read [training.md](training.md#a-checkpoint-of-another-system) first: `fila train`
keeps the canvas, but turns `single` into `fila` in the stage `finetune`. Videos are in [video.md](video.md), VAR's
checkpoints in [codebook.md](codebook.md).

`python docs/make_systems.py docs` writes this page.
"""


def made_processor(recipe: Recipe) -> tuple[FilaConfig, Any]:
    """Config and processor of a recipe, with a tokenizer that knows a placeholder alone: planning reads no text."""
    config = FilaConfig.from_recipe(recipe.name)
    vocabulary = Tokenizer(WordLevel({}, unk_token=""))
    tokens = PreTrainedTokenizerFast(
        tokenizer_object=vocabulary, extra_special_tokens={"image_token": PLACEHOLDER, "video_token": "<video>"}
    )
    return config, processor(recipe, config, tokens, image_token=PLACEHOLDER)


def rectangle(x: float, y: float, width: float, height: float, fill: str) -> str:
    """One rectangle of the picture."""
    return (
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}" fill="{fill}" '
        f'stroke="{INK}" stroke-width="1"/>'
    )


def label(x: float, y: float, text: str, size: int = 12) -> str:
    """Centred text."""
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" font-family="monospace" text-anchor="middle" '
        f'fill="{INK}">{escape(text)}</text>'
    )


def views(plan: Any, top: float) -> tuple[list[str], float]:
    """The overview, if there is one, and the canvas with its tiles; and where the drawing ends."""
    scale = 200 / max(plan.canvas_size)
    height, width = (side * scale for side in plan.canvas_size)
    parts, left, number = [], 20.0, 1
    if plan.overview_size is not None:
        side = 200 * max(plan.overview_size) / (max(plan.overview_size) * 2)
        tall, wide = (side * edge / max(plan.overview_size) for edge in plan.overview_size)
        parts += [rectangle(left, top, wide, tall, OVERVIEW), label(left + wide / 2, top + tall / 2 + 4, "1")]
        parts.append(label(left + wide / 2, top + tall + 14, "x".join(map(str, plan.overview_size)), 10))
        left, number = left + wide + 40, 2
    parts.append(rectangle(left, top, width, height, PADDING))
    box = plan.content_box
    parts.append(
        rectangle(
            left + box.left * scale,
            top + box.top * scale,
            (box.right - box.left) * scale,
            (box.bottom - box.top) * scale,
            TILE,
        )
    )
    for tile in plan.tile_boxes:
        x, y = left + tile.left * scale, top + tile.top * scale
        wide, tall = (tile.right - tile.left) * scale, (tile.bottom - tile.top) * scale
        parts += [rectangle(x, y, wide, tall, "none"), label(x + wide / 2, y + tall / 2 + 4, str(number))]
        number += 1
    parts.append(label(left + width / 2, top + height + 14, "x".join(map(str, plan.canvas_size)), 10))
    return parts, top + max(height, 100) + 30


def prompt_pieces(made: Any, plan: Any) -> list[tuple[str, str]]:
    """(text, colour) of each piece of the prompt."""
    geometry = made._geometry_of(plan.tile_grid, plan.view_sizes, plan.image_size)
    starts = [sum(geometry.token_counts[:view]) for view in range(len(geometry.token_counts) + 1)]
    pieces: list[tuple[str, str]] = []
    for piece in lay_out(made._layout, geometry):
        pieces += [(_visible(piece), PAPER)] if isinstance(piece, str) else _runs(piece, starts, geometry)
    return pieces


def _visible(text: str) -> str:
    return text.replace("\n", "\\n")


def _runs(piece: Piece, starts: list[int], geometry: Any) -> list[tuple[str, str]]:
    """The views in a sequence of token indices, or the map that newline vectors cut in rows."""
    if NEWLINE in piece and len(piece) > 1:
        rows, shows_overview = sum(index == NEWLINE for index in piece), geometry.has_overview and piece[0] < starts[1]
        return [(f"{rows} rows of {len(piece) // rows - 1} + newline", OVERVIEW if shows_overview else TILE)]
    if list(piece) in ([NEWLINE], [SEPARATOR]):
        return [("newline" if piece[0] == NEWLINE else "separator", PAPER)]
    view = next(number for number, (first, last) in enumerate(pairwise(starts)) if first <= piece[0] < last)
    return [(f"{view + 1}: {len(piece)}", OVERVIEW if view == 0 and geometry.has_overview else TILE)]


def picture(recipe: Recipe, made: Any) -> str:
    """The SVG of a recipe."""
    plan = made.image_processor.plan(*IMAGE_SIZE)
    parts, bottom = views(plan, 20)
    x, y = 20.0, bottom
    for text, colour in prompt_pieces(made, plan):
        width = 7.3 * len(text) + 10
        if x + width > WIDTH - 20:
            x, y = 20.0, y + 28
        parts += [rectangle(x, y, width, 22, colour), label(x + width / 2, y + 15, text)]
        x += width + 3
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 42:.0f}" role="img" '
        f'aria-label="{escape(recipe.system)}"><rect width="100%" height="100%" fill="{PAPER}"/>'
        + "".join(parts)
        + "</svg>\n"
    )


def section(recipe: Recipe, config: FilaConfig, made: Any) -> str:
    """The Markdown of a recipe."""
    plan = made.image_processor.plan(*IMAGE_SIZE)
    system = next((system for system in SYSTEMS.values() if recipe.name in system.recipes), None)
    rows = {
        "paper": recipe.paper,
        "code that is followed": recipe.code,
        "canvas": f"`{recipe.image_processor['canvas']}`, tile {made.image_processor.size['height']} pixels",
        "towers": " + ".join(f"`{name}`" for name in tower_names(recipe)),
        "fusion": f"`{recipe.config['fusion']}`",
        "connector": f"`{recipe.config['connector']}`",
        "layout": f"`{recipe.processor['layout']['type']}`",
        "prompt": prompt_format(recipe),
        "image tokens": f"{made.tokens_per_tile} per view, {made._count(plan):,} for the image of the picture",
        "parameters": f"{parameters(config) / 1e9:.2f} billion",
    }
    lines = [f"## {recipe.name}: {recipe.system}", "", f"![{recipe.system}](images/system_{recipe.name}.svg)", ""]
    lines += ["| | |", "|---|---|", *[f"| {name} | {value} |" for name, value in rows.items()], ""]
    if system is None:
        lines += ["No checkpoint was published that could be imported.", ""]
    else:
        command = f"fila import --system {system.name} SRC --output DIR"
        command += " --text-weights LANGUAGE_MODEL" * bool(system.text_is_replaced)
        suffix = "" if system.recipes[0] == recipe.name else f" --recipe {recipe.name}"
        lines += [f"Import: `{command}{suffix}`. Layouts known:", ""]
        lines += [f"- {layout.name}" for layout in system.layouts] + [""]
    lines += ["Deviations:", "", *[f"- {text}" for text in recipe.deviations], ""]
    return "\n".join(lines)


def prompt_format(recipe: Recipe) -> str:
    """Whose chat template an imported checkpoint gets, if its own does not place images."""
    if not recipe.prompt:
        return "the language model's own, a line break behind images"
    own = ", or the language model's own" if recipe.prompt.get("only_without_own") else ""
    return f"`{recipe.prompt['file']}`{own}"


def parameters(config: FilaConfig) -> int:
    """Weights of the whole model."""
    from fila.systems.meta_model import model_on_meta

    return sum(weight.numel() for weight in model_on_meta(config).parameters())


def pages() -> dict[str, str]:
    """File name below docs/ to contents, for the page and every picture."""
    height, width = IMAGE_SIZE
    sections, files = [HEAD.format(height=height, width=width)], {}
    for name in recipe_names():
        recipe = load_recipe(name)
        config, made = made_processor(recipe)
        files[f"images/system_{name}.svg"] = picture(recipe, made)
        sections.append(section(recipe, config, made))
    files["systems.md"] = "\n".join(sections)
    return files


if __name__ == "__main__":
    for file_name, contents in pages().items():
        (Path(sys.argv[1]) / file_name).write_text(contents, encoding="utf-8")
