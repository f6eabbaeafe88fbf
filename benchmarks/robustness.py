# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The torture set through the image processors of transformers, beside ours.

    python benchmarks/robustness.py [docs/robustness.md]

Prints the table, or replaces it in the page. Every processor gets the inputs in a process of its own, which is stopped
when one takes 10 seconds of work. A processor is right when an image gives what its `expected` pixels give as a plain
RGB image, and when it raises an error for what has to be refused; any error counts as a refusal, whatever it says.
Paths and text go through `transformers.image_utils.load_image` and bytes through `PIL.Image.open`, as users do it.
"""

import importlib
import io
import json
import os
import platform
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
import transformers
from PIL import Image
from transformers.image_utils import load_image
from transformers.utils import logging

from fila import FilaImageProcessorPil
from tests.processing.torture import CAP, Input, inputs, peak

PEERS = {
    "LLaVA-NeXT": "llava_next.LlavaNext",
    "InternVL (GotOcr2)": "got_ocr2.GotOcr2",
    "MiniCPM-V 4.6": "minicpmv4_6.MiniCPMV4_6",
    "DeepSeek-VL hybrid": "deepseek_vl_hybrid.DeepseekVLHybrid",
    "Qwen2-VL": "qwen2_vl.Qwen2VL",
}
SECONDS, TOO_LONG = 1, 10
RIGHT = ("right", "refused")
COLUMNS = {
    "right": "right",
    "refused": "rightly refused",
    "wrong": "**wrong pixels, no error**",
    "accepted": "**accepted what has to be refused**",
    "failed": "failed on a good image",
    "slow": "over 1 s of work",
    "stopped": "stopped after 10 s of work",
}
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


def peer(path: str) -> Any:
    """An image processor of transformers, on PIL, with its defaults."""
    module, name = path.split(".")
    package = importlib.import_module(f"transformers.models.{module}.image_processing_pil_{module}")
    return getattr(package, f"{name}ImageProcessorPil")()


def as_users_load(source: Any) -> Any:
    """Turn paths, text and bytes into PIL images; transformers' image processors take nothing else."""
    if isinstance(source, str | Path):
        return load_image(str(source))
    if isinstance(source, bytes | bytearray | memoryview):
        return Image.open(io.BytesIO(source))
    return Image.open(source) if hasattr(source, "read") else source


def values(processor: Any, image: Any) -> list[np.ndarray]:
    """Everything a processor makes of one image."""
    made = processor(images=image, return_tensors=None)
    return [np.asarray(item) for _, entry in sorted(made.items()) for item in flat(entry)]


def flat(entry: Any) -> list[Any]:
    """Arrays out of nested lists."""
    if isinstance(entry, list | tuple):
        return [array for item in entry for array in flat(item)]
    return [entry]


def verdict(processor: Any, load: Callable[[Any], Any], each: Input, folder: Path) -> dict[str, Any]:
    """What a processor makes of an input."""
    source = each.source(folder) if callable(each.source) else each.source
    before, started = peak(again=True), time.process_time()
    try:
        found = values(processor, load(source))
    except Exception as error:
        told = {"outcome": "refused" if isinstance(each.expected, str) else "failed", "error": repr(error)[:200]}
    else:
        told = {"outcome": "accepted" if isinstance(each.expected, str) else "right"}
    told |= {"seconds": time.process_time() - started, "bytes": peak() - before}
    if told["outcome"] == "right":
        wanted = values(processor, Image.fromarray(np.asarray(each.expected, np.uint8)))
        same = len(found) == len(wanted) and all(
            one.shape == other.shape and (one == other).all() for one, other in zip(found, wanted, strict=True)
        )
        told["outcome"] = "right" if same else "wrong"
    return told


def all_verdicts(processor: Any, load: Callable[[Any], Any], everything: list[Input]) -> Iterator[dict[str, Any]]:
    """The verdict on every input, made in a child that is stopped and followed by another when one takes too long."""
    done = 0
    while done < len(everything):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                for each in everything[done:]:
                    signal.setitimer(signal.ITIMER_PROF, TOO_LONG)
                    with tempfile.TemporaryDirectory() as folder:
                        told = verdict(processor, load, each, Path(folder))
                    os.write(writer, json.dumps(told).encode() + b"\n")
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as answers:
            for line in answers:
                done += 1
                yield json.loads(line)
        os.waitpid(child, 0)
        if done < len(everything):
            done += 1
            yield {"outcome": "stopped", "seconds": float(TOO_LONG), "bytes": 0}


def table() -> str:
    """Run everything; the Markdown of the table, and of what goes wrong where."""
    everything = [each for each in inputs() if not each.local]
    processors = {"fila": (FilaImageProcessorPil(high_res_size=None), lambda source: source)}
    processors |= {name: (peer(path), as_users_load) for name, path in PEERS.items()}
    lines = ["| image processor | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    wrong: dict[str, list[str]] = {}
    for name, (processor, load) in processors.items():
        counts: Counter[str] = Counter()
        for each, told in zip(everything, all_verdicts(processor, load, everything), strict=True):
            slow = told["seconds"] > SECONDS
            counts.update([told["outcome"], *(["slow"] if slow else [])])
            if told["outcome"] not in RIGHT or slow:
                wrong.setdefault(f"{each.group}: {each.name}", []).append(f"{name} ({told['outcome']})")
        lines.append(f"| {name} | " + " | ".join(str(counts[column]) for column in COLUMNS) + " |")
        print(lines[-1], file=sys.stderr, flush=True)
    versions = (
        f"{len(everything)} inputs; transformers {transformers.__version__}, Pillow {PIL.__version__}, "
        f"NumPy {np.__version__}, torch {torch.__version__}, Python {platform.python_version()}; "
        f"{platform.machine()}, {os.cpu_count()} cores, Linux; PIL backends; limit {CAP:,} pixels."
    )
    parts = [versions, "", *lines, "", "What goes wrong, input by input:", "", "| input | processors |", "|---|---|"]
    return "\n".join([*parts, *(f"| {cell(each)} | {len(who)}: {', '.join(who)} |" for each, who in wrong.items())])


def cell(text: str) -> str:
    """Text for a cell of a table."""
    return text.replace("|", "\\|")


def main() -> None:
    """Print the table, or put it into a page."""
    Image.MAX_IMAGE_PIXELS = CAP
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    made = table()
    if len(sys.argv) == 1:
        print(made)
        return
    page = Path(sys.argv[1])
    text = page.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    page.write_text(f"{head}{BEGIN}\n{made}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
