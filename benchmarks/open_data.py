# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Time and memory of opening 665,000 rows of LLaVA's form, and of reading them in workers.

Each case runs in a process of its own; rows and images are made in a temporary folder.

    python benchmarks/open_data.py [--rows 665000] [--images 1000]
"""

import argparse
import json
import multiprocessing
import random
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image
from torch.utils.data import DataLoader

from fila.training.data import open_data

WORDS = ("the", "a", "slip", "chart", "block", "title", "letter", "number", "colour", "first", "second", "which")


def write(folder: Path, rows: int, images: int) -> list[Path]:
    """Write rows of about 1.1 kB, as LLaVA's 665k have, as a JSON list and as JSON lines."""
    for number in range(images):
        Image.new("RGB", (64, 48), (number % 256, 90, 30)).save(folder / f"{number:06d}.jpg")
    rng, paths = random.Random(0), [folder / "rows.json", folder / "rows.jsonl"]
    with paths[0].open("w") as as_list, paths[1].open("w") as as_lines:
        for number in range(rows):
            talk = []
            for turn in range(3):
                tag = "<image>\n" if turn == 0 else ""
                talk.append({"from": "human", "value": tag + " ".join(rng.choices(WORDS, k=12))})
                talk.append({"from": "gpt", "value": " ".join(rng.choices(WORDS, k=40))})
            row = {"id": f"{number:09d}", "image": f"{number % images:06d}.jpg", "conversations": talk}
            text = json.dumps(row)
            as_list.write(("[" if number == 0 else ",\n") + text)
            as_lines.write(text + "\n")
        as_list.write("]")
    return paths


def peak() -> float:
    """Return the largest resident memory of this process, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def first(batch: list[Any]) -> int:
    """Return the number of samples, so that no sample travels between processes."""
    return len(batch)


def unique(pid: int) -> float:
    """Return the memory of a process that it shares with no other, in MiB (Linux)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    kept = [int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty"))]
    return sum(kept) / 1024


def measure(case: str, path: str, results: Any) -> None:
    """Open the rows, read 5,000 of them at random places in two workers, and put the figures into the queue."""
    before, started = peak(), time.perf_counter()
    if case == "json.load":
        rows = json.loads(Path(path).read_text())
        results.put((case, len(rows), time.perf_counter() - started, peak() - before, 0.0, 0.0))
        return
    data: Any = range(5_000) if case == "no rows" else open_data(path)
    opened, grown = time.perf_counter() - started, peak() - before
    picked = random.Random(1).sample(range(len(data)), min(5_000, len(data)))
    started = time.perf_counter()
    loader = DataLoader(data, batch_size=100, sampler=picked, num_workers=2, collate_fn=first)
    batches, most = iter(loader), 0.0
    for number, _ in enumerate(batches):
        if number % 10 == 0:
            most = max([most, *(unique(worker.pid) for worker in batches._workers)])  # type: ignore[attr-defined]
    results.put((case, len(data), opened, grown, len(picked) / (time.perf_counter() - started), most))


def main() -> None:
    """Make the rows, measure each case and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=665_000)
    parser.add_argument("--images", type=int, default=1000)
    asked = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        as_list, as_lines = write(Path(folder), asked.rows, asked.images)
        print(f"file: {as_list.stat().st_size / 2**20:,.0f} MiB")
        print("| case | rows | opened in | memory grows by | rows per second, 2 workers | private to a worker |")
        print("|---|---|---|---|---|---|")
        cases = [("JSON list", as_list), ("JSON lines", as_lines), ("no rows", as_list), ("json.load", as_list)]
        for case, path in cases:
            results: Any = spawn.Queue()
            process = spawn.Process(target=measure, args=(case, str(path), results))
            process.start()
            name, rows, opened, grown, speed, worker = results.get()
            process.join()
            print(f"| {name} | {rows:,} | {opened:.0f} s | {grown:,.0f} MiB | {speed:,.0f} | {worker:,.0f} MiB |")


if __name__ == "__main__":
    main()
