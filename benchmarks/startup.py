# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""CPU seconds that a start costs, beside those of what it has to import anyway.

    python benchmarks/startup.py [RUNS]

Each command runs RUNS times (5 if not given), in turns, each time in a process of its own. The least CPU time (user +
system) counts, because other work on the machine only ever adds to it; bytecode is written in a first turn.
"""

import os
import resource
import subprocess
import sys

COMMANDS = {
    "import torch": ["-c", "import torch"],
    "the Auto classes of transformers": ["-c", "from transformers import AutoModelForImageTextToText, AutoProcessor"],
    "import fila": ["-c", "import fila"],
    "fila --version": ["-m", "fila_cli", "--version"],
    "fila --help": ["-m", "fila_cli", "--help"],
    "fila plan 2200x1700": ["-m", "fila_cli", "plan", "2200x1700"],
}
# what: (most times, of what)
BOUNDS = {
    "import fila": (1.1, "the Auto classes of transformers"),
    "fila --version": (0.7, "import torch"),
    "fila --help": (0.7, "import torch"),
    "fila plan 2200x1700": (1.1, "import fila"),
}


def cpu_seconds(arguments: list[str]) -> float:
    """User and system time of one process, and of those it started."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, *arguments], env=environment | {"HF_HUB_OFFLINE": "1"}, check=True, stdout=subprocess.DEVNULL
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(runs: int) -> None:
    """Print a table."""
    turns = [{name: cpu_seconds(arguments) for name, arguments in COMMANDS.items()} for _ in range(runs + 1)]
    least = {name: min(turn[name] for turn in turns[1:]) for name in COMMANDS}
    print("| start | CPU seconds | beside | times | at most |\n|---|---|---|---|---|")
    for name, seconds in least.items():
        bound, other = BOUNDS.get(name, (None, "-"))
        times = "-" if bound is None else f"{seconds / least[other]:.2f}"
        print(f"| {name} | {seconds:.2f} | {other} | {times} | {bound or '-'} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
