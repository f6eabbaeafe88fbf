# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Find the damaged file when another library fails to open a checkpoint."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokenizers import Tokenizer

from .pretrained_part import read_json, read_tensors
from .safetensors_file import opened


@contextmanager
def naming_damage(checkpoint: str | Path) -> Iterator[None]:
    """Convert errors that a damaged checkpoint causes in a block to a `ValueError` that names the file.

    Args:
        checkpoint: Folder or Hub id. Files are inspected only after an error, and only in a local folder.

    Raises:
        ValueError: If a file is damaged, or the error is of a class that callers do not expect.
    """
    try:
        yield
    except Exception as error:
        folder = Path(checkpoint).expanduser()
        if folder.is_dir() and (damage := _damage(folder)):
            raise ValueError(f"{checkpoint} is damaged: {damage}") from error
        if isinstance(error, (ValueError, OSError, RuntimeError, ImportError)):
            raise
        raise ValueError(f"{checkpoint} cannot be opened ({type(error).__name__}: {error}).") from error


def _damage(folder: Path) -> str | None:
    """Describe the first damaged file; return None if no file is damaged."""
    try:
        for path in sorted([*folder.glob("*config.json"), *folder.glob("tokenizer.json")]):
            read_json(path)
        for path in sorted(folder.glob("*.safetensors")):
            with opened(path):
                pass
        if any(folder.glob("*.safetensors.index.json")):
            read_tensors(folder, folder.name)
    except ValueError as error:
        return str(error)
    tokenizer = folder / "tokenizer.json"
    try:
        if tokenizer.is_file():
            Tokenizer.from_file(str(tokenizer))
    except Exception as error:  # the library's errors have no class of their own
        return f"{tokenizer.name} is no tokenizer: {error}."
    return None
