# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Conversion of older checkpoints' pickled weights to safetensors, in a child process.

A pickle can run code when it is opened. torch's `weights_only` reader runs only code that it knows. It runs in a
child process, which returns the tensors in a format that cannot hold code. All other code rejects pickles.
"""

import subprocess
import sys
from pathlib import Path

from .pretrained_part import inside_folder, read_json
from .safetensors_file import StoredTensor, read_header

SINGLE = "pytorch_model.bin"
INDEX = "pytorch_model.bin.index.json"
_CHILD = """
import sys, torch
from safetensors.torch import save_file
state = torch.load(sys.argv[1], map_location="cpu", weights_only=True, mmap=True)
state = state.get("state_dict", state)
wrong = [str(key) for key, value in state.items() if not isinstance(value, torch.Tensor)]
if wrong:
    sys.exit(f"{wrong[0]!r} is no tensor")
seen, tensors = set(), {}
for key, value in state.items():  # tied weights lie in one place, which the format does not allow
    value = value.contiguous()
    tensors[key] = value.clone() if value.data_ptr() in seen else value
    seen.add(value.data_ptr())
save_file(tensors, sys.argv[2])
"""


def has_pickled_weights(folder: Path) -> bool:
    """Return whether the folder has pickled weights and no safetensors."""
    return not any(folder.glob("*.safetensors")) and any((folder / name).is_file() for name in (SINGLE, INDEX))


def read_pickled_weights(folder: Path, scratch: Path, name: str) -> dict[str, StoredTensor]:
    """Convert the shards one at a time, and read the headers of the written files.

    Args:
        folder: Folder of the pickles.
        scratch: Folder for the safetensors.
        name: Of the checkpoint, for messages.

    Raises:
        ValueError: If a shard is missing, holds other objects than tensors, or repeats a key of another shard.
    """
    shards = [SINGLE]
    if (folder / INDEX).is_file():
        weight_map = read_json(folder / INDEX).get("weight_map")
        if not isinstance(weight_map, dict):
            raise ValueError(f"{INDEX} of {name} must map keys to file names in `weight_map`.")
        shards = sorted(set(map(str, weight_map.values())))
    scratch.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, StoredTensor] = {}
    for number, shard in enumerate(shards):
        path = inside_folder(folder, shard, INDEX, endings=(".bin", ".pt", ".pth"))
        written = scratch / f"{number:05d}.safetensors"
        convert(path, written)
        found = read_header(written)
        if twice := sorted(set(found) & set(tensors)):
            raise ValueError(f"{name}: {twice[0]!r} lies in two shards, one of them {shard}.")
        tensors |= found
    return tensors


def convert(pickle: Path, output: Path) -> None:
    """Write the tensors of a pickle as safetensors, in a child process.

    Raises:
        ValueError: If it holds anything else; names the file.
    """
    command = [sys.executable, "-P", "-c", _CHILD, str(pickle.resolve()), str(output.resolve())]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        reason = process.stderr.strip().splitlines()
        raise ValueError(
            f"{pickle.name} cannot be read as weights alone: {reason[-1][:300] if reason else 'the reader failed'}. "
            "Load it where you trust it, and save it as safetensors."
        )
