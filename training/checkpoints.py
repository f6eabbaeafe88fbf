# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Whether a `checkpoint-*` folder is whole: it opens without this package's help, and training can go on from it."""

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
_STATE = "trainer_state.json"  # what Trainer writes last
_SHARDS = ("pytorch_model_fsdp_*", "global_step*", "latest")  # of FSDP and DeepSpeed, each process's own
_OF_TORCH = (".pt", ".pth", ".bin")
_OPTIMIZER = ("optimizer.pt", "optimizer.bin", "optimizer_0", "global_step*", "optimizer*")


def missing_files(folder: Path, *, resumable: bool = True) -> list[str]:
    """What a checkpoint lacks or has in part; files of weights and state are not read, but their length is checked.

    Args:
        folder: A `checkpoint-*` folder. Where processes wrote their shares into it, no more is asked for than going on
            needs: whether a model lies beside them depends on the plugin.
        resumable: Whether the state of optimizer, schedule and random numbers must be there too.

    Returns:
        Names, empty if it is whole.
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
    """The newest whole checkpoint; those that a killed process left half written are passed over with a warning.

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
    """The newest checkpoint that was saved to its end, of a module that has no processor beside its weights.

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
    """A JSON object, empty if the file is none."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _cut_files(folder: Path) -> list[str]:
    """Files that end before they should; those that processes wrote into folders of their own are not looked at."""
    cut = [] if not (folder / _STATE).is_file() or _read(folder / _STATE) else [_STATE]
    for path in sorted(folder.glob("*.safetensors")):
        try:
            read_header(path)
        except ValueError:
            cut.append(path.name)
    # what torch saves is a zip, whose table of contents stands at its end
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
    """Files that an `auto_map` names and that do not lie beside it; code of another repository (`--`) aside."""
    modules: set[str] = set()
    for name in ("config.json", "processor_config.json"):
        auto_map = _read(folder / name).get("auto_map", {})
        modules |= auto_map_files({key: value for key, value in auto_map.items() if "--" not in str(value)})
    return [name for name in sorted(modules) if not (folder / name).is_file()]
