# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Generated pages as files, made once for inspection and repeated training.

A folder gets `images/` and `pages.jsonl`, one sample per line, which `fila train` and `fila evaluate` read. Beside the
sample a line has `glyphs`, the place of every character, for the warm-up of towers.
"""

import functools
import json
import signal
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from fila.conversion.output import written_atomically, written_file
from fila.processing.image_processing_fila import FilaImageProcessor, FilaImageProcessorPil

from .page_fonts import Face
from .page_pdf import make_crop
from .page_sheet import Glyph
from .pages import LAYOUTS, dense_text, make_page, make_sample

JPEG = {"quality": 95, "subsampling": 0}


def write_pages(
    folder: str | Path,
    split: str,
    count: int,
    image_processor: FilaImageProcessor | FilaImageProcessorPil,
    *,
    faces: Sequence[Face],
    first_seed: int = 0,
    dense: bool = False,
    num_questions: int = 6,
    read: int = 0,
    pdfs: Sequence[str | Path] = (),
    workers: int = 1,
    progress: bool = False,
) -> Path:
    """Write pages.

    Args:
        folder: Is made; must not hold pages yet.
        split: "train", "varied" or "test".
        count: How many pages.
        image_processor: Of the model that is to read them, see `make_page`.
        faces: Fonts of the split.
        first_seed: Seed of the first page; the others follow.
        dense: Pages full of text, without questions.
        num_questions: Per page, at most.
        read: See `make_sample`.
        pdfs: PDF files to cut pieces out of, in place of made pages; see `make_crop`.
        workers: Processes.
        progress: Whether to show a bar on standard error.

    Returns:
        The file with the samples; the same for the same arguments.

    Raises:
        ValueError: If the folder holds pages, or there is no such split.
    """
    if split not in LAYOUTS:
        raise ValueError(f"The split must be one of {sorted(LAYOUTS)}; got {split!r}.")
    folder = Path(folder)
    lines, images = folder / "pages.jsonl", folder / "images"
    for path in (lines, images):
        if path.exists():
            raise ValueError(f"{path} exists. Pass another folder, or remove it.")
    asked = {"num_questions": num_questions, "read": read}
    options = {"faces": tuple(faces), "dense": dense, "asked": asked, "pdfs": tuple(map(str, pdfs))}
    seeds = range(first_seed, first_seed + count)
    with (
        written_file(lines, inputs=pdfs) as partial,
        written_atomically(images, overwrite=False) as made,  # in its place before the file that names its images
        partial.open("w", encoding="utf-8") as file,
        tqdm(total=count, unit=" pages", disable=not progress) as bar,
    ):
        write = functools.partial(_write_page, made, split, image_processor, options)

        def keep(line: str) -> None:
            file.write(line + "\n")
            bar.update()

        if workers > 1:
            # Ctrl-C reaches every process; this one ends the others
            with get_context("spawn").Pool(workers, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
                for line in pool.imap(write, seeds, chunksize=16):
                    keep(line)
        else:
            for seed in seeds:
                keep(write(seed))
    return lines


def _write_page(
    images: Path,
    split: str,
    image_processor: FilaImageProcessor | FilaImageProcessorPil,
    options: dict[str, Any],
    seed: int,
) -> str:
    sample: dict[str, Any]
    if options["pdfs"]:
        sample = make_crop(options["pdfs"], seed, image_processor, num_questions=options["asked"]["num_questions"])
    elif options["dense"]:
        page = make_page(seed, split, image_processor, faces=options["faces"], layout=dense_text)
        sample = {"images": [page.image], "messages": [], "fields": [], "glyphs": page.glyphs}
    else:
        sample = make_sample(seed, split, image_processor, faces=options["faces"], **options["asked"])
    return write_sample(sample, images, f"{seed:08d}.jpg")


def write_sample(sample: dict[str, Any], images: Path, name: str) -> str:
    """Write the page of a sample into the folder `images` and return the sample's line of JSON."""
    sample["images"][0].save(images / name, **JPEG)
    glyphs = {
        "characters": "".join(glyph.character for glyph in sample["glyphs"]),
        "y": [round(glyph.y, 1) for glyph in sample["glyphs"]],
        "x": [round(glyph.x, 1) for glyph in sample["glyphs"]],
    }
    return json.dumps({**sample, "images": [f"images/{name}"], "glyphs": glyphs}, separators=(",", ":"))


def read_glyphs(sample: dict[str, Any]) -> list[Glyph]:
    """Return the characters of a page that was read from its file."""
    glyphs = sample["glyphs"]
    return [Glyph(*each) for each in zip(glyphs["characters"], glyphs["y"], glyphs["x"], strict=True)]
