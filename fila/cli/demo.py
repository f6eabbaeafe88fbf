# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The built-in demonstration: the bundled model reads small print on bundled pages.

The demonstration asks every question twice. The second time it removes the high-res tower's features, so the model
sees only the tiles.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from fila.cli.ask import load_checkpoint
from fila.cli.library_messages import quiet
from fila.conversion.output import written_file
from fila.look.drawing import CARD, GREY, INK, OVERVIEW, RULE, SHEET, TILE, font
from fila.look.processed_image import Seen, look
from fila.look.view_settings import Eyes
from fila.modeling.modeling_fila import FilaForConditionalGeneration
from fila.processing.processing_fila import FilaProcessor
from fila.training.data import questions
from fila.training.evaluation import answer_questions

Say = Callable[[str], None]
RIGHT, WRONG = "#2b8a3e", "#c92a2a"
PANEL, MARGIN, ROW = 512, 32, 30


@dataclass(frozen=True)
class Asked:
    """One question about a page and the model's answers.

    Attributes:
        question: The question.
        printed: The value on the page.
        with_high_res: The model's answer.
        without_high_res: Its answer with the high-res tower's features removed.
    """

    question: str
    printed: str
    with_high_res: str
    without_high_res: str


@contextmanager
def bundled_files() -> Iterator[Path]:
    """Yield the bundled folder with `default_model/` and `demo_pages/`."""
    with as_file(files("fila") / "assets") as folder:
        yield folder


@contextmanager
def without_high_res(model: FilaForConditionalGeneration) -> Iterator[None]:
    """Disable every tap of the fusion in the block, so that the low-res features stay unchanged.

    Raises:
        ValueError: If the model's fusion has no taps.
    """
    layers = getattr(model.model.vision_tower.fusion, "layers", None)
    if layers is None:
        raise ValueError(f"Only a fusion with taps can be skipped; the model has {model.config.fusion['type']!r}.")
    with ExitStack() as hooks:
        for layer in layers:
            handle = layer.register_forward_hook(lambda module, inputs, output: inputs[0])
            hooks.callback(handle.remove)
        yield


def run_demo(
    output: Path, *, assets: Path | None = None, show: Say = print, say: Say = lambda line: None
) -> tuple[Path, list[list[Asked]]]:
    """Ask the bundled model about the bundled pages, and draw its views and answers.

    Args:
        output: Folder for the picture.
        assets: Folder with `default_model/` and `demo_pages/pages.jsonl`; the package's own by default.
        show: Function that receives lines of the result.
        say: Function that receives lines about the progress.

    Returns:
        The picture, and the questions of each page.
    """
    with ExitStack() as stack:
        folder = assets or stack.enter_context(bundled_files())
        started = time.perf_counter()
        with quiet():
            model, processor = load_checkpoint(str(folder / "default_model"), device="cpu", dtype="float32")
        size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        say(f"loaded the bundled model, {size:.1f} M parameters, in {time.perf_counter() - started:.1f} s")
        lines = (folder / "demo_pages" / "pages.jsonl").read_text(encoding="utf-8").splitlines()
        samples = [json.loads(line) for line in lines]
        for sample in samples:
            sample["images"] = [str(folder / "demo_pages" / name) for name in sample["images"]]
        started = time.perf_counter()
        answers = [_ask(model, processor, sample) for sample in samples]
        count = 2 * sum(map(len, answers))
        say(f"{count} answers in {time.perf_counter() - started:.1f} s")
        seen = []
        for sample in samples:
            with Image.open(sample["images"][0]) as page:
                seen.append(look(Eyes.of(model.config, processor, "demo"), page.convert("RGB")))
    for line in _table(samples, answers):
        show(line)
    picture = output / "demo.png"
    with written_file(picture) as partial:
        draw_demo(seen, answers).save(partial, optimize=True)
    show(f"What the towers saw: {picture}")
    return picture, answers


def _ask(model: FilaForConditionalGeneration, processor: FilaProcessor, sample: dict[str, Any]) -> list[Asked]:
    asked = list(questions([sample]))
    options: dict[str, Any] = {"buckets": {}, "max_new_tokens": 24}
    said = list(answer_questions(model, processor, asked, **options))
    with without_high_res(model):
        blind = list(answer_questions(model, processor, asked, **options))
    return [
        Asked(one.question, one.reference, one.prediction, other.prediction)
        for one, other in zip(said, blind, strict=True)
    ]


def _table(samples: Sequence[dict[str, Any]], answers: Sequence[Sequence[Asked]]) -> Iterator[str]:
    for number, (sample, asked) in enumerate(zip(samples, answers, strict=True), start=1):
        field = sample["fields"][0]
        yield ""
        yield (
            f"Page {number}: capitals are {field['tile_cap_height']:.1f} pixels tall on the tiles, "
            f"{field['high_res_cap_height']:.1f} on the high-res canvas."
        )
        rows = [("question", "printed", "answer", "", "without the high-res tower")]
        rows += [
            (each.question, each.printed, each.with_high_res, _verdict(each), each.without_high_res) for each in asked
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    flat = [each for asked in answers for each in asked]
    right = sum(each.with_high_res == each.printed for each in flat)
    blind = sum(each.without_high_res == each.printed for each in flat)
    yield ""
    yield f"Right: {right} of {len(flat)}; without the high-res tower's features: {blind} of {len(flat)}."


def _verdict(asked: Asked) -> str:
    return "right" if asked.with_high_res == asked.printed else "WRONG"


def draw_demo(seen: Sequence[Seen], answers: Sequence[Sequence[Asked]]) -> Image.Image:
    """Draw for each page the view of each tower and, below it, the answers with and without the high-res tower.

    Args:
        seen: The processed pages.
        answers: The questions about each page.

    Returns:
        An RGB picture.
    """
    width = 2 * PANEL + 3 * MARGIN
    heights = [PANEL + 130 + ROW * len(asked) for asked in answers]
    picture = Image.new("RGB", (width, sum(heights) + MARGIN), SHEET)
    draw = ImageDraw.Draw(picture)
    top = MARGIN
    for each, asked, height in zip(seen, answers, heights, strict=True):
        panels = (
            ("What the tiles show", TILE, _tile_canvas(each), "answer without the high-res tower's features", False),
            ("What the high-res tower sees as well", OVERVIEW, each.high_res, "answer", True),
        )
        for column, (title, colour, canvas, heading, with_high_res) in enumerate(panels):
            assert canvas is not None
            x = MARGIN + column * (PANEL + MARGIN)
            tall, wide = canvas.size[::-1]
            draw.text((x, top + 18), title, font=font(20), fill=colour, anchor="ls")
            draw.text((x + PANEL, top + 18), f"{tall} x {wide} pixels", font=font(16), fill=GREY, anchor="rs")
            scale = PANEL / max(canvas.size)
            size = (round(wide * scale), round(tall * scale))
            picture.paste(canvas.resize(size, Image.Resampling.NEAREST), (x, top + 28))
            draw.rectangle([x - 1, top + 27, x + PANEL, top + 28 + PANEL], outline=colour, width=2)
            y = top + PANEL + 56
            draw.text((x, y), heading, font=font(15), fill=GREY, anchor="ls")
            for row, one in enumerate(asked, start=1):
                answer = one.with_high_res if with_high_res else one.without_high_res
                baseline = y + row * ROW
                draw.rectangle([x, baseline - 21, x + PANEL, baseline + 7], fill=CARD, outline=RULE)
                draw.text((x + 8, baseline), one.question, font=font(16), fill=INK, anchor="ls")
                ink = RIGHT if answer == one.printed else WRONG
                draw.text((x + PANEL - 8, baseline), answer, font=font(16), fill=ink, anchor="rs")
        top += height
    return picture


def _tile_canvas(seen: Seen) -> Image.Image:
    """Join the tiles that the low-res tower receives into one picture."""
    plan = seen.plan
    canvas = Image.new("RGB", (plan.canvas_size.width, plan.canvas_size.height))
    for view, box in zip(seen.views[plan.num_views - plan.num_tiles :], plan.tile_boxes, strict=True):
        canvas.paste(view, (box.left, box.top))
    return canvas
