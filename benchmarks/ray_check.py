# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The bulk job as two actors of Ray Data, beside one process and two shards of `fila ask --data`: `make ray-check`.

It prints the throughput of each and exits with an error if their answers differ. Times hold the start
of the processes.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fila.cli.demo import bundled_files

REPEATED = 3  # the bundled pages, so many times
EXAMPLE = Path(__file__).parents[1] / "examples" / "ray_ask.py"


def lines(*paths: Path) -> list[str]:
    """Return the lines of files, sorted."""
    return sorted(line for path in paths for line in path.read_text(encoding="utf-8").splitlines())


def timed(*commands: list[str]) -> float:
    """Run commands at the same time and return the seconds until the last one ended."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    started = time.perf_counter()
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for command in commands]
    if any(list(map(subprocess.Popen.wait, running))):
        sys.exit("A command failed.")
    return time.perf_counter() - started


def main() -> None:
    """Run the three and compare their lines."""
    with bundled_files() as assets, tempfile.TemporaryDirectory() as name:
        folder, checkpoint = Path(name), str(assets / "default_model")
        source = assets / "demo_pages"
        samples = [json.loads(line) for line in (source / "pages.jsonl").read_text().splitlines()] * REPEATED
        for sample in samples:
            sample["images"] = [str(source / image) for image in sample["images"]]
        data = folder / "data.jsonl"
        data.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
        count = sum(len(sample["fields"]) for sample in samples)

        ask = [sys.executable, "-m", "fila", "ask", checkpoint, "--data", str(data), "--max-new-tokens", "32", "-o"]
        ray = [sys.executable, str(EXAMPLE), checkpoint, str(data)]
        ray_options = ["--max-new-tokens", "32", "--rows", "2"]
        parts = [folder / "0.jsonl", folder / "1.jsonl"]
        seconds = {
            "one process": timed([*ask, str(folder / "one.jsonl")]),
            "two shards": timed(*[[*ask, str(part), "--shard", f"{i}/2"] for i, part in enumerate(parts)]),
            "Ray, two actors": timed([*ray, str(folder / "ray.jsonl"), *ray_options]),
        }
        print(f"{'':18} {'questions':>9} {'seconds':>8} {'per second':>10}")
        for kind, duration in seconds.items():
            print(f"{kind:18} {count:9} {duration:8.1f} {count / duration:10.2f}")
        one = lines(folder / "one.jsonl")
        if not (len(one) == count and one == lines(*parts) == lines(folder / "ray.jsonl")):
            sys.exit("The answers differ.")
        print("equal answers")


if __name__ == "__main__":
    main()
