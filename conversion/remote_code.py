# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The files and config entries with which a checkpoint loads where `fila` is not installed."""

import shutil
from pathlib import Path
from typing import Any

from transformers.dynamic_module_utils import get_relative_import_files

PROCESSOR_AUTO_MAP = {"AutoProcessor": "processing_fila.FilaProcessor"}
IMAGE_PROCESSOR_AUTO_MAP = {
    "AutoImageProcessor": {
        "torchvision": "image_processing_fila.FilaImageProcessor",
        "pil": "image_processing_fila.FilaImageProcessorPil",
    }
}


def remote_code_files() -> list[Path]:
    """Every file of `fila` that a checkpoint needs: the model's and the processor's, and all that they import."""
    from fila.modeling import modeling_fila
    from fila.processing import image_processing_fila, processing_fila

    files: dict[str, Path] = {}
    for module in (modeling_fila, processing_fila, image_processing_fila):
        start = Path(str(module.__file__))
        for path in [start, *map(Path, get_relative_import_files(start))]:
            files[path.name] = path
    return [files[name] for name in sorted(files)]


def own_code() -> dict[str, Path]:
    """Every file of `fila` that may lie beside a checkpoint, by name: those and what other models need."""
    from fila import modeling, processing

    folders = [Path(str(package.__file__)).parent for package in (modeling, processing)]
    return {path.name: path for folder in folders for path in folder.glob("*.py") if path.name != "__init__.py"}


def differing_code(folder: Path) -> list[str]:
    """What of the code beside a checkpoint is not what this version of `fila` writes there, file by file."""
    own, needed = own_code(), {path.name for path in remote_code_files()}
    beside = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.py")}
    if not beside:
        return [f"no code at all ({len(needed)} files are missing)"]
    return [
        *(f"{name} (missing)" for name in sorted(needed - set(beside))),
        *(f"{name} (not of fila)" for name in sorted(set(beside) - set(own))),
        *(
            f"{name} (different)"
            for name in sorted(set(beside) & set(own))
            if beside[name].read_bytes() != own[name].read_bytes()
        ),
    ]


def copy_remote_code(folder: Path) -> None:
    """Copy those files into a checkpoint folder."""
    for path in remote_code_files():
        shutil.copyfile(path, folder / path.name)


def auto_map_files(auto_map: dict[str, Any]) -> set[str]:
    """Names of the files that an `auto_map` refers to."""
    names: set[str] = set()
    for value in auto_map.values():
        references = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        names |= {f"{reference.split('.')[0]}.py" for reference in references if isinstance(reference, str)}
    return names
