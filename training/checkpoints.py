# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Checks that a `checkpoint-*` folder is complete: it opens on its own, and training can resume from it."""

import json
import re
import zipfile
from pathlib import Path
from typing import Any

from transformers.utils import logging

from fila.conversion.remote_code import auto_map_files
from fila.conversion.safetensors_file import read_header

logger = logging.get_logger(__name__)

_MODEL = ("config.json",)
_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
_PROCESSOR = ("processor_config.json", "tokenizer_config.json", "chat_template.jinja")
_STATE = "trainer_state.json"  # the file that Trainer writes last
_SHARDS = ("pytorch_model_fsdp_*", "global_step*", "latest")  # shards of FSDP and DeepSpeed, one per process
_OF_TORCH = (".pt", ".pth", ".bin")
_OPTIMIZER = ("optimizer.pt", "optimizer.bin", "optimizer_0", "global_step*", "optimizer*")


def missing_files(folder: Path, *, resumable: bool = True) -> list[str]:
    """List the files that a checkpoint lacks or that are cut off; of weights and state only the length is checked.

    Args:
        folder: A `checkpoint-*` folder. If each process wrote its own shard, only the files for resuming are
            required: whether the folder also holds a model depends on the plugin.
        resumable: Whether to require the state of optimizer, schedule and random numbers too.

    Returns:
        Names of the files; empty if the checkpoint is complete.
    """
    is_sharded = resumable and any(any(folder.glob(name)) for name in _SHARDS)
    is_adapter = (folder / _ADAPTER[0]).is_file()
    needed = [_STATE] if is_sharded else [*(_ADAPTER if is_adapter else _MODEL), *_PROCESSOR, _STATE]
    missing = [name for name in needed if not (folder / name).is_file()]
    if not (is_sharded or is_adapter):
        missing += _missing_weights(folder) + _missing_code(folder)
    if resumable:
        missing += [] if is_sharded or (folder / "scheduler.pt").is_file() else ["scheduler.pt"]
        missing += [] if any(any(folder.glob(name)) for name in _OPTIMIZER) else ["optimizer.pt"]
        missing += [] if is_sharded or any(folder.glob("rng_state*.pth")) else ["rng_state.pth"]
    return missing + [f"{name} (cut off)" for name in _cut_files(folder)]


def last_complete_checkpoint(output_dir: str | Path) -> Path | None:
    """Return the newest complete checkpoint; skip those that a killed process left incomplete, with a warning.

    Args:
        output_dir: Of the training run.

    Returns:
        Its folder, or None.
    """
    for folder in _newest_first(output_dir):
        if not (missing := missing_files(folder)):
            return folder
        logger.warning(f"{folder} is not whole and is passed over; it lacks {missing}.")
    return None


def last_saved_checkpoint(output_dir: str | Path) -> Path | None:
    """Return the newest checkpoint whose saving was finished, for a module that is saved without a processor.

    Args:
        output_dir: Of the training run.

    Returns:
        Its folder, or None.
    """
    return next((folder for folder in _newest_first(output_dir) if _read(folder / _STATE)), None)


def _newest_first(output_dir: str | Path) -> list[Path]:
    found = [path for path in Path(output_dir).glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name.partition("-")[2]), reverse=True)


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON object; return an empty one if the file does not hold one."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _cut_files(folder: Path) -> list[str]:
    """List the files that are cut off; files in the folders of single processes are not checked."""
    cut = [] if not (folder / _STATE).is_file() or _read(folder / _STATE) else [_STATE]
    for path in sorted(folder.glob("*.safetensors")):
        try:
            read_header(path)
        except ValueError:
            cut.append(path.name)
    # torch saves a zip file, whose table of contents is at its end
    torch_files = [path for path in sorted(folder.iterdir()) if path.suffix in _OF_TORCH and path.is_file()]
    return cut + [path.name for path in torch_files if not _is_whole_zip(path)]


def _is_whole_zip(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path):
            return True
    except zipfile.BadZipFile:
        return False


def _missing_weights(folder: Path) -> list[str]:
    index = folder / "model.safetensors.index.json"
    names = sorted(set(_read(index).get("weight_map", {}).values())) or ["model.safetensors"]
    return [name for name in names if not (folder / name).is_file()]


def _missing_code(folder: Path) -> list[str]:
    """List the missing files that an `auto_map` names, except code of another repository (`--`)."""
    modules: set[str] = set()
    for name in ("config.json", "processor_config.json"):
        auto_map = _read(folder / name).get("auto_map", {})
        modules |= auto_map_files({key: value for key, value in auto_map.items() if "--" not in str(value)})
    return [name for name in sorted(modules) if not (folder / name).is_file()]
