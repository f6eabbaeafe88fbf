# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Image preprocessing against its floor and against the image processors of transformers, at equal output geometry.

    python benchmarks/preprocess.py [--quick] [--turns=7] [docs/preprocess.md]

Prints the tables, or replaces them in the page. One process, one thread; what is compared runs in turns, and the
smallest time of each counts: processor time, which says the same on a machine that does other things too. Images are
decoded before the clock starts, outputs are torch tensors.

The floor of an image is what no program can leave out: its bytes are read out of PIL, one separable uint8 resize per
distinct size that it is drawn at, and each output value is written once from uint8 to float. It is measured with bare
primitives, without packing, padding or checks, twice: with PIL's resize, whose pixels the published systems were
trained on (`exact` gives them), and with torch's, which differs by a gray level (`fast`).

Peers are measured with torchvision where it can be imported (`make bench-preprocess` sees to it), and on PIL.
"""

import importlib
import io
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
import transformers
from PIL import Image
from transformers.utils import is_torchvision_available, logging

from fila import FilaImageProcessorPil, FilaProcessor
from fila.processing.canvas import CANVASES
from fila.processing.canvas_plan import Size
from fila.processing.image_input import load_images
from fila.processing.image_render import scale_geometry
from tests.helpers import TILE, random_image, tiny_model, tiny_processor, tiny_tokenizer

# Ours, the peer's class, and what makes the peer draw the same.
SYSTEMS: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "LLaVA-NeXT": (
        {"size": 336, "canvas": {"type": "llava_next"}},
        "llava_next.LlavaNext",
        {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}},
    ),
    "InternVL (GotOcr2)": (
        {"size": 448, "canvas": {"type": "internvl"}},
        "got_ocr2.GotOcr2",
        {"crop_to_patches": True, "max_patches": 12, "size": {"height": 448, "width": 448}},
    ),
    # Version 4.6 draws multiples of four patches; patches of 56 pixels give the same views.
    "MiniCPM-V 4.6": ({"size": 448, "canvas": {"type": "minicpm", "patch_size": 56}}, "minicpmv4_6.MiniCPMV4_6", {}),
    "DeepSeek-VL hybrid": (
        {"size": 384, "canvas": {"type": "square_pad"}, "high_res_size": 1024},
        "deepseek_vl_hybrid.DeepseekVLHybrid",
        {},
    ),
    "Qwen2-VL": (
        {"size": 28, "canvas": {"type": "native", "multiple": 2, "max_patches": 16384}},
        "qwen2_vl.Qwen2VL",
        {"size": {"shortest_edge": 28 * 28, "longest_edge": 14 * 14 * 16384}},
    ),
}
SIZES = {"672x448": (672, 448), "1344x1344": (1344, 1344), "A4 at 300 dpi": (3508, 2480)}
MIXED = ((672, 448), (448, 672), (1344, 1344), (480, 640), (1080, 1920), (333, 500), (1754, 1240), (224, 224))
FILTERS = {"PIL": "exact", "torch": "fast"}
HEAD = (
    "Milliseconds. The last columns say how much faster we are than the peer that resizes alike: `exact` than "
    "transformers on PIL, `fast` than transformers on torchvision."
)
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    """An image with smooth areas and edges, so that it compresses like a page."""
    coarse = random_image(max(2, height // 16), max(2, width // 16), seed)
    return coarse.resize((width, height), Image.Resampling.BILINEAR)


def smallest(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Seconds of work of each call, in turns, the smallest of all rounds."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            started = time.process_time()
            call()
            best[name] = min(best[name], time.process_time() - started)
    return best


def modes() -> list[str]:
    """The ways of drawing that our processor has."""
    has_fast = "mode" in FilaImageProcessorPil.valid_kwargs.__annotations__
    return ["exact", "fast"] if has_fast else ["exact"]


def ours(settings: dict[str, Any], mode: str = "exact") -> FilaImageProcessorPil:
    """Our processor; it draws the same bits as `FilaImageProcessor`."""
    return FilaImageProcessorPil(**{"high_res_size": None, **settings}, **({} if mode == "exact" else {"mode": mode}))


def peer(path: str, settings: dict[str, Any], backend: str) -> Any:
    """An image processor of transformers."""
    module, name = path.split(".")
    infix, suffix = ("pil_", "Pil") if backend == "PIL" else ("", "")
    package = importlib.import_module(f"transformers.models.{module}.image_processing_{infix}{module}")
    return getattr(package, f"{name}ImageProcessor{suffix}")(**settings)


def drawings(settings: dict[str, Any], size: tuple[int, int]) -> tuple[set[Size], int]:
    """The distinct sizes at which an image is drawn, and how many output pixels it has."""
    plan = ours(settings).plan(*size)
    sizes, pixels = {plan.content_box.size}, sum(view.height * view.width for view in plan.view_sizes)
    if plan.content_in_overview is not None:
        sizes.add(plan.content_in_overview.size)
    if high := settings.get("high_res_size"):
        canvas, content = scale_geometry(plan, low=Size(settings["size"], settings["size"]), high=Size(high, high))
        sizes.add(content.size)
        pixels += canvas.height * canvas.width
    return sizes, pixels


def floor(images: Sequence[Image.Image], work: Sequence[tuple[set[Size], int]], primitive: str) -> None:
    """Read, resize and write with bare primitives; the values of all images are there at the end."""
    made = []
    for image, (sizes, pixels) in zip(images, work, strict=True):
        source = torch.from_numpy(np.asarray(image)).permute(2, 0, 1)[None] if primitive == "torch" else None
        for height, width in sizes:
            if primitive == "PIL":
                levels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
            else:
                levels = torch.nn.functional.interpolate(source, (height, width), mode="bicubic", antialias=True)
        values = np.zeros(3 * pixels, np.uint8)
        written = np.empty(3 * pixels, np.float32)
        np.multiply(values, np.float32(0.01), out=written, dtype=np.float32)
        written -= np.float32(1.7)
        made.append((levels, written))


def pixels_of(made: Any, name: str) -> int:
    """Pixels of what a processor returned, padding patches left out."""
    if "patch_grids" in made:
        return int(np.asarray(made["patch_grids"]).prod(-1).sum()) * made["pixel_values"].shape[-2] ** 2
    repeats = 2 if name == "Qwen2-VL" else 1  # it repeats a still image as two frames
    arrays = [made[key] for key in ("pixel_values", "high_res_pixel_values") if key in made]
    return sum(np.asarray(array).size for array in arrays) // 3 // repeats


def drawing_table(rounds: int, names: Sequence[str]) -> list[str]:
    """Every system on every image."""
    backends = ["PIL", *(["torchvision"] if is_torchvision_available() else [])]
    both = [*FILTERS]
    head = ["image", "system", "Mpx out", *(f"floor ({name})" for name in both), *modes()]
    head += [f"transformers, {name}" for name in backends]
    head += [f"{mode} / floor" for mode in modes()]
    head += [f"{backend} / {mode}" for backend, mode in zip(backends, modes(), strict=False)]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    sets = {name: [picture(*size)] for name, size in SIZES.items() if name in names}
    if "mixed" in names:
        sets["mixed batch of 8"] = [picture(*size, seed) for seed, size in enumerate(MIXED)]
    for title, images in sets.items():
        for name, (settings, path, changes) in SYSTEMS.items():
            work = [drawings(settings, (image.height, image.width)) for image in images]
            calls: dict[str, Callable[[], Any]] = {}
            for primitive in both:
                calls[f"floor {primitive}"] = lambda images=images, work=work, by=primitive: floor(images, work, by)
            for mode in modes():
                processor = ours(settings, mode)
                calls[mode] = lambda processor=processor, images=images: processor(images, return_tensors="pt")
            for backend in backends:
                other = peer(path, changes, backend)
                calls[backend] = lambda other=other, images=images: other(images=images, return_tensors="pt")
                if len(images) == 1:
                    assert pixels_of(calls[backend](), name) == pixels_of(calls["exact"](), name) == work[0][1]
            best = smallest(calls, rounds)
            of_floor = [best[mode] / best[f"floor {p}"] for p, mode in FILTERS.items() if mode in modes()]
            of_peer = [best[backend] / best[mode] for backend, mode in zip(backends, modes(), strict=False)]
            pixels = sum(pixels for _, pixels in work) / 1e6
            cells = [title, name, f"{pixels:.2f}", *(f"{seconds * 1e3:.1f}" for seconds in best.values())]
            cells += [f"{ratio:.2f}" for ratio in of_floor + of_peer]
            lines.append("| " + " | ".join(cells) + " |")
            print(lines[-1], file=sys.stderr, flush=True)
    return lines


def decoding_table(rounds: int, names: Sequence[str]) -> list[str]:
    """From encoded bytes to an upright picture, against the decoder alone."""
    lines = [
        "| file | decoder alone, ms | `load_images`, ms | ratio | transformers' `load_image`, ratio |",
        "|---" * 5 + "|",
    ]
    for title, size in SIZES.items():
        for form in ("JPEG", "PNG"):
            if title not in names:
                continue
            file = io.BytesIO()
            picture(*size).save(file, form, quality=90)
            data = file.getvalue()
            calls: dict[str, Callable[[], Any]] = {
                "alone": lambda data=data: Image.open(io.BytesIO(data)).load(),
                "ours": lambda data=data: load_images(data),
                "theirs": lambda data=data: transformers.image_utils.load_image(Image.open(io.BytesIO(data))),
            }
            best = smallest(calls, rounds)
            own, theirs = best["ours"] / best["alone"], best["theirs"] / best["alone"]
            cells = [f"{title}, {form}", f"{best['alone'] * 1e3:.1f}", f"{best['ours'] * 1e3:.1f}"]
            lines.append("| " + " | ".join([*cells, f"{own:.3f}", f"{theirs:.3f}"]) + " |")
    return lines


def random_sizes(count: int) -> list[tuple[int, int]]:
    """Sides spread evenly over the magnitudes from 1 to 10000."""
    draw = np.random.default_rng(0).uniform(0, np.log(10_000), (count, 2))
    return [(int(height), int(width)) for height, width in np.exp(draw).round()]


def planning_table(rounds: int) -> list[str]:
    """Microseconds per size, without pixels; no size comes twice."""
    sizes = random_sizes(2000)
    lines = ["| canvas strategy | tokens of a size, us | whole plan, us |", "|---" * 3 + "|"]
    for name in CANVASES:
        images = ours({"size": 448, "canvas": {"type": name}})
        token_size = None if images.plans().equal_views else 14
        processor = FilaProcessor(images, tiny_tokenizer(), tokens_per_tile=1024, token_size=token_size)
        plans = images.plans()
        calls: dict[str, Callable[[], Any]] = {
            "count": lambda processor=processor: processor._get_num_multimodal_tokens(sizes),
            "plan": lambda plans=plans: [plans(*size) for size in sizes],
        }
        best = smallest(calls, rounds)
        lines.append(f"| `{name}` | " + " | ".join(f"{best[key] / len(sizes) * 1e6:.2f}" for key in best) + " |")
    return lines


def encoded_ratio() -> tuple[float, float]:
    """Pixels that the low-res tower encodes, and pixels that are sent, as multiples of those of real views."""
    model, processor, seen = tiny_model(), tiny_processor(), []
    images = [random_image(*size) for size in ((30, 90), (56, 56), (20, 20), (90, 28))]
    inputs = processor(text=["<image>"] * 4, images=images, return_tensors="pt", padding=True)
    embedding = model.model.vision_tower.low_res_tower.embeddings.patch_embedding
    embedding.register_forward_pre_hook(lambda _, args: seen.append(args[0].numel()))
    with torch.no_grad():
        model(**inputs)
    real = 3 * TILE**2 * int(inputs["view_boxes"].any(-1).sum())
    return sum(seen) / real, inputs["pixel_values"].numel() / real


def report(quick: bool, rounds: int) -> str:
    """All tables as Markdown."""
    names = ["672x448"] if quick else [*SIZES, "mixed"]
    encoded, sent = encoded_ratio()
    versions = (
        f"transformers {transformers.__version__}, Pillow {PIL.__version__}, NumPy {np.__version__}, torch "
        f"{torch.__version__} ({torch.backends.cpu.get_cpu_capability()}), Python {platform.python_version()}; "
        f"{platform.machine()}, {os.cpu_count()} cores, Linux; one process, one thread, processor time, "
        f"smallest of {rounds} turns; load average {os.getloadavg()[0]:.0f}."
    )
    parts = [versions, "", HEAD, ""]
    parts += [*drawing_table(rounds, names), "", *decoding_table(rounds, names), "", *planning_table(rounds), ""]
    parts.append(
        f"Pixels that the low-res tower encodes, per pixel of real views: {encoded:.2f}; pixels that are sent in one "
        f"tensor for a mixed batch of 4: {sent:.2f}, without `return_tensors` 1.00."
    )
    return "\n".join(parts)


def main() -> None:
    """Print the tables, or put them into a page."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    arguments = sys.argv[1:]
    turns = [int(argument.removeprefix("--turns=")) for argument in arguments if argument.startswith("--turns=")]
    made = report("--quick" in arguments, turns[0] if turns else 3 if "--quick" in arguments else 7)
    pages = [Path(argument) for argument in arguments if not argument.startswith("--")]
    if not pages:
        print(made)
    for page in pages:
        head, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
        page.write_text(f"{head}{BEGIN}\n{made}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
