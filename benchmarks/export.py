# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The default model compiled and exported: graphs, seconds, sizes, and how far the results lie from the model's.

    python benchmarks/export.py

Needs the extra `onnx`. Seconds are processor time of this process, which says the same on a machine that does other
things too; the times of an image are the least of rounds in which all candidates take turns.
"""

import json
import logging
import os
import platform
import runpy
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from PIL import Image

import fila
from fila.cli.ask import ask, load_checkpoint, open_images
from fila.conversion.export_onnx import write_onnx
from fila.conversion.vision_graph import export_vision

ASSETS = Path(fila.__file__).parent / "assets"
EXAMPLE = Path(__file__).parents[1] / "examples" / "answer_onnx.py"
SIZES = [(190, 200), (100, 300), (333, 90), (64, 64), (300, 150), (20, 33)]
EIGHT = [*SIZES, (250, 240), (80, 250)]
ROUNDS = 5


def picture(height: int, width: int) -> Image.Image:
    """A seeded image of noise."""
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def graphs_of(model: Any, processor: Any, *, training: bool) -> tuple[int, float]:
    """Return the graphs of `torch.compile` over eight sizes of images, and the largest difference of logits."""
    graphs: list[torch.fx.GraphModule] = []

    def count(graph: torch.fx.GraphModule, example: list[torch.Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    model.train(training)
    compiled, worst = torch.compile(model, backend=count), 0.0
    for number, size in enumerate(EIGHT):
        text = f"<image>{'a' * number}"
        batch = dict(processor(text=text, images=picture(*size), return_tensors="pt"))
        with torch.set_grad_enabled(training):
            found = compiled(**batch, labels=batch["input_ids"])
            if training:
                found.loss.backward()
            expected = model(**batch)
        worst = max(worst, (found.logits - expected.logits).abs().max().item())
    model.eval().zero_grad()
    return len(graphs), worst


def vision(model: Any, processor: Any, folder: Path) -> None:
    """Print seconds, size and differences of the vision half."""
    start = time.process_time()
    program = export_vision(model, processor)
    exported = time.process_time()
    write_onnx(program, folder / "vision.onnx")
    written = time.process_time()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session, graph = onnxruntime.InferenceSession(folder / "vision.onnx", options), program.module()
    names = [given.name for given in session.get_inputs()]
    print(f"torch.export: {exported - start:.1f} s; ONNX: {written - exported:.1f} s more", end=", ")
    print(f"{(folder / 'vision.onnx').stat().st_size / 1e6:.1f} MB\n")
    print(
        "| image | tile grid | `torch.export` | onnxruntime | model, ms | onnxruntime, ms |\n|---|---|---|---|---|---|"
    )
    for size in SIZES:
        batch = processor.image_processor(picture(*size), return_tensors="pt")
        inputs = {name: batch[name] for name in names}
        feed = {name: value.numpy() for name, value in inputs.items()}
        ways: list[Callable[[], Any]] = [
            lambda batch=batch: model.get_image_features(**batch).pooler_output[0],  # type: ignore[misc]
            lambda feed=feed: torch.from_numpy(session.run(None, feed)[0]),  # type: ignore[misc]
        ]
        found, least = [way() for way in ways], [float("inf")] * len(ways)
        for _ in range(ROUNDS):
            for index, way in enumerate(ways):
                start = time.process_time()
                way()
                least[index] = min(least[index], time.process_time() - start)
        apart = [(other - found[0]).abs().max().item() for other in (graph(**inputs), found[1])]
        grid = "x".join(map(str, batch["tile_grid"][0].tolist()))
        row = [
            f"{size[0]}x{size[1]}",
            grid,
            *(f"{each:.1e}" for each in apart),
            *(f"{each * 1e3:.0f}" for each in least),
        ]
        print(f"| {' | '.join(row)} |")


def answers(folder: Path) -> None:
    """Print seconds and size of all three graphs, and how many questions get the model's answer."""
    example = runpy.run_path(str(EXAMPLE))
    start = time.process_time()
    example["export"](str(ASSETS / "default_model"), str(folder))
    seconds = time.process_time() - start
    sizes = {
        name: sum(path.stat().st_size for path in folder.glob(f"{name}.onnx*")) for name in ("embedding", "language")
    }
    model, processor = load_checkpoint(str(ASSETS / "default_model"), device="cpu", dtype="float32")
    total = equal = 0
    for line in (ASSETS / "demo_pages" / "pages.jsonl").read_text(encoding="utf-8").splitlines():
        page = json.loads(line)
        path = str(ASSETS / "demo_pages" / page["images"][0])
        for field in page["fields"]:
            expected = ask(model, processor, open_images([path]), field["question"]).text
            total += 1
            equal += example["answer"](str(folder), path, field["question"]) == expected
    parts = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes.items())
    print(f"\nAll three graphs: {seconds:.1f} s, {parts}")
    print(f"Answers equal to the model's: {equal} of {total}")


@torch.no_grad()
def main() -> None:
    """Print all figures."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Linux; one thread, processor time.")
    print(f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}\n")
    model, processor = load_checkpoint(str(ASSETS / "default_model"), device="cpu", dtype="float32")
    for training in (False, True):
        graphs, worst = graphs_of(model, processor, training=training)
        print(
            f"torch.compile, {'training' if training else 'inference'}: {graphs} graphs for eight sizes, {worst:.1e}"
        )
    with tempfile.TemporaryDirectory() as folder:
        vision(model, processor, Path(folder))
        answers(Path(folder))


if __name__ == "__main__":
    main()
