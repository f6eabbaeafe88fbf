# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Nearest-code search beside the full distance matrix and the quantisers of transformers' Emu3 and Chameleon.

    python benchmarks/codebook.py [--vectors 16384] [--codes 4096] [--size 32] [--repeat 3]

Every method runs in a process of its own, with one thread, on the same numbers. Time is the process's CPU time, the
best of the repetitions, because a busy machine stretches the clock; memory is the kernel's high-water mark above what
was there before the call.
"""

import argparse
import ctypes
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]


def status(name: str) -> float:
    """A line of /proc/self/status in MiB."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return float(next(line for line in text.splitlines() if line.startswith(name)).split()[1]) / 1024


def ours(vectors: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Our own search, in chunks."""
    from fila.modeling.var_quantizer import nearest_codes

    return nearest_codes(vectors, codes)


def cdist(vectors: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """The matrix of all distances."""
    return torch.cdist(vectors, codes).argmin(dim=1)


def emu3(vectors: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """`Emu3VQVAEVectorQuantizer`."""
    from transformers.models.emu3.configuration_emu3 import Emu3VQVAEConfig
    from transformers.models.emu3.modeling_emu3 import Emu3VQVAEVectorQuantizer

    config = Emu3VQVAEConfig(codebook_size=len(codes), embed_dim=codes.shape[1])
    quantizer = Emu3VQVAEVectorQuantizer(config)
    quantizer.embedding.weight.data.copy_(codes)
    return quantizer(vectors.T[None, None, :, None]).flatten()


def chameleon(vectors: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """`ChameleonVQVAEVectorQuantizer`; its forward also looks the codes up and sums its loss."""
    from transformers import ChameleonVQVAEConfig
    from transformers.models.chameleon.modeling_chameleon import ChameleonVQVAEVectorQuantizer

    quantizer = ChameleonVQVAEVectorQuantizer(
        ChameleonVQVAEConfig(num_embeddings=len(codes), embed_dim=codes.shape[1])
    )
    quantizer.embedding.weight.data.copy_(codes)
    return quantizer(vectors.T[None, :, None])[2].flatten()


METHODS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "fila": ours,
    "cdist": cdist,
    "Emu3": emu3,
    "Chameleon": chameleon,
}


@torch.no_grad()
def measure(name: str, num_vectors: int, num_codes: int, size: int, repeat: int) -> dict[str, object]:
    """One method, in this process."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(num_vectors, size, generator=generator)
    codes = torch.randn(num_codes, size, generator=generator)
    METHODS[name](vectors, codes)  # imports, first calls, what the libraries keep
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the high-water mark begins here
    before = status("VmRSS")
    times = []
    for _ in range(repeat):
        start = time.process_time()
        ids = METHODS[name](vectors, codes)
        times.append(time.process_time() - start)
    return {"seconds": min(times), "mib": status("VmHWM") - before, "ids": ids.tolist()}


def main() -> None:
    """Run every method and print the table."""
    parser = argparse.ArgumentParser()
    for option, default in (("vectors", 16384), ("codes", 4096), ("size", 32), ("repeat", 3)):
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--method")
    given = parser.parse_args()
    sizes = (given.vectors, given.codes, given.size, given.repeat)
    if given.method:
        print(json.dumps(measure(given.method, *sizes)))
        return
    found = {}
    for name in METHODS:
        options = [f"--{key}={value}" for key, value in vars(given).items() if value is not None]
        command = [sys.executable, __file__, "--method", name, *options]
        process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        found[name] = json.loads(process.stdout)
    base = found["fila"]
    print(
        f"{given.vectors} vectors of {given.size} against {given.codes} codes, one thread, torch {torch.__version__}"
    )
    print("| method | CPU s | ratio to fila | MiB | ratio to fila | ids equal to fila's |\n|---|---|---|---|---|---|")
    for name, result in found.items():
        equal = sum(one == other for one, other in zip(result["ids"], base["ids"], strict=True)) / given.vectors
        cost = f"{result['seconds']:.3f} | {result['seconds'] / base['seconds']:.2f}"
        memory = f"{result['mib']:.0f} | {result['mib'] / base['mib']:.1f}"
        print(f"| {name} | {cost} | {memory} | {100 * equal:.3f} % |")


if __name__ == "__main__":
    main()
