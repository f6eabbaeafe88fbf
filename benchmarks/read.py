# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Memory and time of `fila read` on a PDF of many pages, and a run that is killed in the middle.

    python benchmarks/read.py            # 100 pages with the model that comes with fila: minutes

The PDF holds the two bundled pages in turn. Memory is the largest resident size of the process, the least of
`--rounds` runs for one page, which differs between runs more than the pages do.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

import fila
from fila.processing.image_document import open_page
from fila.processing.processing_fila import FilaProcessor

ASSETS = Path(fila.__file__).parent / "assets"
MODEL = str(ASSETS / "default_model")


def write_pdf(path: Path, count: int) -> None:
    """Write a PDF of the bundled pages in turn."""
    pages = [Image.open(name).convert("RGB") for name in sorted((ASSETS / "demo_pages" / "images").glob("*.jpg"))]
    made = [pages[number % len(pages)] for number in range(count)]
    made[0].save(path, save_all=True, append_images=made[1:], resolution=200)


def command(pdf: Path, output: Path) -> list[str]:
    """Return the command that reads a PDF."""
    question = json.loads((ASSETS / "demo_pages" / "pages.jsonl").read_text().splitlines()[0])["fields"][0]["question"]
    given = ["--checkpoint", MODEL, "--prompt", question, "--max-new-tokens", "16", "-o", str(output)]
    return [sys.executable, "-m", "fila", "read", str(pdf), *given]


def run(pdf: Path, output: Path) -> tuple[float, float]:
    """Read a PDF; return the largest resident size in MiB and the seconds."""
    began = time.perf_counter()
    process = subprocess.Popen(command(pdf, output), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"fila read ended with status {status}")
    return usage.ru_maxrss / 1024, time.perf_counter() - began


def killed(pdf: Path, output: Path, page: int) -> None:
    """Read a PDF until a page is written, and kill."""
    process = subprocess.Popen(command(pdf, output), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not (output.exists() and output.read_bytes().count(b"<!-- {") >= page):
        if process.poll() is not None:
            raise SystemExit("the run ended before it was killed")
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pages", type=int, default=100)
    parser.add_argument("--kill", type=int, default=37)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        one, many = Path(folder, "one.pdf"), Path(folder, "many.pdf")
        write_pdf(one, 1)
        write_pdf(many, given.pages)
        small = [run(one, Path(folder, f"one-{number}.md")) for number in range(given.rounds)]
        large = run(many, Path(folder, "whole.md"))
        least = min(size for size, _ in small)
        print(f"{os.cpu_count()} cores, {platform.machine()}")
        print(f"one page: {least:.0f} MiB; {given.pages} pages: {large[0]:.0f} MiB, {large[0] / least:.3f} times")
        spent = (large[1] - min(seconds for _, seconds in small)) / (given.pages - 1)
        processor = FilaProcessor.from_pretrained(MODEL)
        began = time.process_time()
        for number in range(20):
            open_page(f"{many}#page={number + 1}", processor)
        drawing = (time.process_time() - began) / 20
        print(f"a page: {spent:.2f} s by the clock, of which drawing {drawing * 1000:.1f} ms of CPU time")
        killed(many, Path(folder, "part.md"), given.kill)
        run(many, Path(folder, "part.md"))
        same = Path(folder, "part.md").read_bytes() == Path(folder, "whole.md").read_bytes()
        print(f"killed at page {given.kill} and resumed: {'the same bytes' if same else 'OTHER BYTES'}")


if __name__ == "__main__":
    main()
