# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Export an imported checkpoint back to the original system's names and shapes.

The weights may have been trained since. Tensors that the import dropped (an unread layer, an unused head) are copied
from the original. If the import dropped none, the original is not needed.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fila.modeling.configuration_fila import FilaConfig

from .assemble import stored_dtype
from .import_checkpoint import RECORD, open_source
from .key_rules import Origin, export_plan
from .output import parse_size, write_json, write_weights, written_atomically
from .pretrained_part import open_part
from .safetensors_file import StoredTensor, TensorStream
from .shared_templates import TEXT
from .systems import find_system


@dataclass(frozen=True)
class JoinedTensor:
    """The first `rows` rows of `function(sources)`; sources are read whole unless they are copied unchanged."""

    sources: tuple[StoredTensor, ...]
    function: Callable[[Sequence[torch.Tensor]], torch.Tensor]
    shape: tuple[int, ...]

    def pieces(self) -> Iterator[torch.Tensor]:
        made = self.function([source.load() for source in self.sources])
        yield made[: self.shape[0]].contiguous().reshape(-1) if self.shape else made.reshape(-1)


def export_checkpoint(
    checkpoint: str | Path,
    output: str | Path,
    *,
    original: str | Path | None = None,
    max_shard_size: int | str = "5GB",
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Write weights and config.json in the original system's format.

    Args:
        checkpoint: Checkpoint made by `import_checkpoint`, possibly trained since.
        output: Folder to write.
        original: The checkpoint that was imported, as the source of the tensors that the import dropped.
        max_shard_size: Largest weight file.
        overwrite: Replace an existing output.
        progress: Show a progress bar.

    Raises:
        ValueError: If the checkpoint was not imported.
        RuntimeError: If the import dropped tensors and `original` is not given.
    """
    part = open_part(checkpoint)
    record = part.read_json(RECORD)
    if not record:
        raise ValueError(
            f"{part.name} has no {RECORD}, which `fila import` writes and `fila train` keeps. If it was trained in "
            "another way, copy the file from the imported checkpoint; otherwise there is no original to go back to."
        )
    system = find_system(record["system"])
    (layout,) = [one for one in system.layouts if one.name == record["layout"]]
    config = FilaConfig.from_pretrained(part.folder)
    own = part.tensors
    if "text" in record:  # the original's language model was replaced by another one, which stays here
        own = {key: tensor for key, tensor in own.items() if not key.startswith((TEXT, "lm_head."))}
    plan = export_plan(own, layout.templates(config), name=part.name)
    streams: dict[str, TensorStream] = {
        key: _stream(origin, part.tensors, record["rows"].get(key)) for key, origin in plan.items()
    }
    with written_atomically(Path(output), overwrite=overwrite, inputs=[checkpoint, original]) as folder:
        scratch = folder / "pickled.partial"
        streams |= _left_behind(record, original, scratch, part.name)
        write_json(folder / "config.json", record["config"])
        dtype, size = stored_dtype(part), parse_size(max_shard_size)
        write_weights(folder, streams, dtype=dtype, shard_bytes=size, progress=progress)
        shutil.rmtree(scratch, ignore_errors=True)
    return Path(output)


def _stream(origin: Origin, tensors: Mapping[str, StoredTensor], rows: int | None) -> TensorStream:
    sources = tuple(tensors[key] for key in origin.sources)
    empty = [torch.empty(source.shape, device="meta") for source in sources]
    shape = tuple(origin.function(empty).shape)
    return JoinedTensor(sources, origin.function, (rows, *shape[1:]) if rows else shape)


def _left_behind(
    record: Mapping[str, Any], original: str | Path | None, scratch: Path, name: str
) -> dict[str, TensorStream]:
    """Return the original's tensors that have no place in our model."""
    if not record["left_behind"]:
        return {}
    if original is None:
        raise RuntimeError(
            f"The import of {name} left {len(record['left_behind'])} tensors behind, e.g. {record['left_behind'][0]!r}"
            f". Pass `original`, the checkpoint {record['source']}, to take them from."
        )
    tensors = open_source(original, scratch).tensors
    if missing := [key for key in record["left_behind"] if key not in tensors]:
        raise RuntimeError(f"{original} lacks {missing[0]!r}; it is not the checkpoint that was imported.")
    return {key: tensors[key] for key in record["left_behind"]}
