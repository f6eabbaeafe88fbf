# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Peak memory and time of assembling a full-size checkpoint, against copying the same bytes.

    python benchmarks/assemble.py            LLaMA-3-8B, CLIP-L/14-336 and ConvNeXt-L in bfloat16: needs 52 GB of disk
    python benchmarks/assemble.py --layers 8 fewer layers of the language model

The parts are synthetic: real shapes, a vocabulary of real size, one random block repeated. Each round assembles in a
fresh process and then copies the output's files with `shutil.copyfile`; the shortest of each is compared. Everything
is removed at the end.
"""

import argparse
import json
import math
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    CLIPVisionConfig,
    ConvNextConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from fila.conversion.output import write_weights
from fila.conversion.safetensors_file import PIECE_BYTES

DTYPE = torch.bfloat16
BLOCK = torch.randn(PIECE_BYTES // DTYPE.itemsize, generator=torch.Generator().manual_seed(0)).mul_(0.02).to(DTYPE)


@dataclass(frozen=True)
class Repeated:
    """A tensor of any shape that repeats one random block."""

    shape: tuple[int, ...]

    def pieces(self) -> Iterator[torch.Tensor]:
        remaining = math.prod(self.shape)
        while remaining > 0:
            yield BLOCK[:remaining]
            remaining -= len(BLOCK)


def write_part(folder: Path, config: Any, auto: Any) -> int:
    """Write a part with the shapes of `config` and return its number of parameters."""
    with torch.device("meta"):
        model = auto.from_config(config)
    folder.mkdir()
    config.save_pretrained(folder)
    tensors = {key: Repeated(tuple(tensor.shape)) for key, tensor in model.state_dict().items()}
    write_weights(folder, tensors, dtype=DTYPE, shard_bytes=5 * 10**9, progress=False)
    return sum(math.prod(tensor.shape) for tensor in tensors.values())


def write_tokenizer(folder: Path, size: int) -> None:
    """Write a byte-pair tokenizer with `size` tokens, all of them reachable by merges."""
    tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges: list[tuple[str, str]] = []
    for start in tokens[:256]:
        merges += [(start, end) for end in tokens[:256]]
    merges += [(first + second, third) for first, second in merges[:1024] for third in tokens[:256]]
    merges = merges[: size - 256 - 2]
    vocabulary = {token: index for index, token in enumerate(["<s>", "</s>", *tokens, *(a + b for a, b in merges)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(folder)


def write_parts(folder: Path, layers: int) -> int:
    """Write the three parts and return their number of parameters."""
    clip = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
    )
    convnext = ConvNextConfig(hidden_sizes=[192, 384, 768, 1536], depths=[3, 3, 27, 3])
    llama = LlamaConfig(
        vocab_size=128256,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=layers,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=8192,
    )
    total = write_part(folder / "clip", clip, AutoModel) + write_part(folder / "convnext", convnext, AutoModel)
    total += write_part(folder / "text", llama, AutoModelForCausalLM)
    write_tokenizer(folder / "text", llama.vocab_size)
    return total


def assemble_here(folder: Path) -> None:
    """Assemble in this process and print what it took as JSON."""
    from fila.conversion.assemble import assemble

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    assemble(folder / "clip", folder / "convnext", folder / "text", folder / "out", progress=False)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "peak_gib": peak / 2**20, "imports_gib": before / 2**20}))


def copy_files(source: Path, target: Path) -> float:
    """Copy the weight files one by one and return the seconds it took."""
    target.mkdir()
    start = time.perf_counter()
    for path in sorted(source.glob("*.safetensors")):
        shutil.copyfile(path, target / path.name)
    seconds = time.perf_counter() - start
    shutil.rmtree(target)
    return seconds


def main() -> None:
    """Write the parts, measure, print, clean up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=32, help="layers of the language model (32: LLaMA-3-8B)")
    parser.add_argument("--rounds", type=int, default=2, help="times that each side is measured")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the disk space is")
    parser.add_argument("--inner", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inner:
        assemble_here(arguments.inner)
        return
    with tempfile.TemporaryDirectory(prefix="fila-assemble-", dir=arguments.folder) as name:
        folder = Path(name)
        parameters = write_parts(folder, arguments.layers)
        gigabytes = sum(path.stat().st_size for path in folder.rglob("*.safetensors")) / 1e9
        print(f"parts: {parameters / 1e9:.2f} B parameters, {gigabytes:.1f} GB in bfloat16", flush=True)
        assembled: list[dict[str, float]] = []
        copied: list[float] = []
        for _ in range(arguments.rounds):
            command = [sys.executable, __file__, "--inner", name]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            assembled.append(json.loads(output.splitlines()[-1]))
            copied.append(copy_files(folder / "out", folder / "copy"))
            shutil.rmtree(folder / "out")
            print(f"assemble {assembled[-1]['seconds']:.1f} s, copy {copied[-1]:.1f} s", flush=True)
    fastest, copy = min(run["seconds"] for run in assembled), min(copied)
    print(
        f"peak memory {max(run['peak_gib'] for run in assembled):.2f} GiB (imports alone "
        f"{assembled[0]['imports_gib']:.2f})"
    )
    print(f"time {fastest:.1f} s, {fastest / copy:.2f} times a plain copy of the same files ({copy:.1f} s)")


if __name__ == "__main__":
    main()
