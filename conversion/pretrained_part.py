# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""A part: one pretrained model, in a local folder or on the Hub, that a checkpoint is assembled from.

Only safetensors files are read. Each path in an index file is checked before it is opened: it must be a plain
relative name whose target is inside the part's folder (or, for a Hub snapshot, among the blobs of the same
repository).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from huggingface_hub import RepoCard, snapshot_download

from fila.modeling.configuration_fila import check_layers

from .safetensors_file import StoredTensor, read_header

_HUB_PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.md", "LICENSE*", "LICENCE*", "NOTICE*"]
_SINGLE_FILES = ("model.safetensors", "open_clip_model.safetensors")
_INDEX_FILES = ("model.safetensors.index.json", "open_clip_model.safetensors.index.json")
_PICKLED_WEIGHTS = ["pytorch_model.bin", "pytorch_model-*.bin"]
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")


@dataclass(frozen=True)
class Part:
    """One opened source checkpoint: its config and the places of its tensors.

    Attributes:
        name: Hub id or folder name, for messages and the model card; never an absolute path.
        folder: Folder of its files.
        config: Contents of its config file.
        tensors: Key to place in a file; empty if the part was opened for its config alone.
        card: Metadata of its model card: `license`; `fila_source` and `fila_note` are passed on to the assembled
            model's card.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Key to shape of every tensor."""
        return {key: tensor.shape for key, tensor in self.tensors.items()}

    @property
    def license(self) -> str | None:
        """The licences that its model card names."""
        found = self.card.get("license")
        return ", ".join(map(str, found)) if isinstance(found, list) else found

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON file of the part; return an empty dict if the file does not exist."""
        path = self.folder / name
        return read_json(path) if path.is_file() else {}


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ValueError: If the file is not a JSON object; names it.
    """
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path.name} is not JSON: {error}.") from error
    if not isinstance(contents, dict):
        raise ValueError(f"{path.name} must hold a JSON object; it holds a {type(contents).__name__}.")
    return contents


def resolve_folder(source: str | Path, *, pickles: bool = False) -> tuple[str, Path]:
    """Return a part's name and folder; download the part if `source` is a Hub id.

    Args:
        source: A local folder, or `owner/name` or `owner/name@revision` on the Hub.
        pickles: Whether pickled weights may be downloaded too, for `pickled_weights.py`.

    Returns:
        Name of the part (folder name, or Hub id and commit), and its folder.

    Raises:
        ValueError: If it is neither, or cannot be downloaded.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder.resolve().name, folder
    text = str(source)
    repo_id, _, revision = text.partition("@")
    if folder.is_absolute() or text.startswith((".", "~")) or repo_id.count("/") != 1:
        raise ValueError(f"{text!r} is neither a folder nor a Hub id of the form owner/name.")
    try:
        patterns = [*_HUB_PATTERNS, *(_PICKLED_WEIGHTS if pickles else [])]
        snapshot = Path(snapshot_download(repo_id, revision=revision or None, allow_patterns=patterns))
    except (OSError, ValueError) as error:
        raise ValueError(f"{text!r} is no folder here, and the Hub did not give it: {error}") from error
    return f"{repo_id}@{snapshot.name[:12]}", snapshot


def open_part(source: str | Path, *, weights: bool = True) -> Part:
    """Open a part.

    Args:
        source: A local folder, or `owner/name` or `owner/name@revision` on the Hub.
        weights: Whether to read the headers of its weights too; otherwise only its config is read.

    Returns:
        The part; no tensor has been read yet.

    Raises:
        ValueError: If the folder has no config, has no safetensors weights, is quantized, names more layers than it
        has tensors, or its index is unsafe or wrong.
    """
    name, folder = resolve_folder(source)
    config = _read_config(folder, name)
    if "quantization_config" in config:
        raise ValueError(f"{name} is quantized. Assemble from its full-precision original, and quantize the result.")
    tensors = read_tensors(folder, name) if weights else {}
    check_layers(name, config)
    if weights:
        check_layers(name, config, len(tensors), f"the part has {len(tensors)} tensors")
    return Part(name=name, folder=folder, config=config, tensors=tensors, card=read_card(folder))


def _read_config(folder: Path, name: str) -> dict[str, Any]:
    for candidate in ("config.json", "open_clip_config.json"):
        if (folder / candidate).is_file():
            return read_json(folder / candidate)
    raise ValueError(f"{name} has no config.json.")


def read_card(folder: Path) -> dict[str, Any]:
    """Read the metadata of the folder's model card."""
    card = folder / "README.md"
    if not card.is_file():
        return {}
    metadata: dict[str, Any] = RepoCard.load(card, ignore_metadata_errors=True).data.to_dict()
    return metadata


def read_tensors(folder: Path, name: str) -> dict[str, StoredTensor]:
    """Find every tensor of a checkpoint folder, from one file or from an index and its shards.

    Raises:
        ValueError: If there is no safetensors file, or index and shards contradict each other; names file and key.
    """
    for file_name in _SINGLE_FILES:
        if (folder / file_name).is_file():
            return read_header(inside_folder(folder, file_name, file_name))
    for file_name in _INDEX_FILES:
        if (folder / file_name).is_file():
            return _read_index(folder, file_name)
    singles = sorted(path.name for path in folder.glob("*.safetensors"))
    if len(singles) == 1:
        return read_header(inside_folder(folder, singles[0], singles[0]))
    if singles:
        raise ValueError(
            f"{name} has {len(singles)} safetensors files and no model.safetensors.index.json that says how they "
            f"belong together, e.g. {singles[0]!r}. Load it with transformers and save it again."
        )
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    found = f", only {pickles[0]!r}" if pickles else ""
    raise ValueError(
        f"{name} has no safetensors weights{found}. Formats that can run code when opened are refused. Take a "
        "revision of the repository that has safetensors (owner/name@revision), or load the model where you trust it "
        "and call `save_pretrained(folder)`, which writes them."
    )


def _read_index(folder: Path, index_name: str) -> dict[str, StoredTensor]:
    weight_map = read_json(inside_folder(folder, index_name, index_name)).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise ValueError(f"{index_name} must map keys to file names in `weight_map`.")
    tensors: dict[str, StoredTensor] = {}
    for shard in sorted(set(weight_map.values())):
        for key, tensor in read_header(inside_folder(folder, shard, index_name)).items():
            if key in tensors:
                raise ValueError(f"{key!r} lies in two shards, {tensors[key].file.name} and {shard}.")
            if key not in weight_map:
                raise ValueError(f"{shard} holds {key!r}, which {index_name} does not list.")
            if weight_map[key] != shard:
                raise ValueError(f"{index_name} says that {key!r} lies in {weight_map[key]}; it lies in {shard}.")
            tensors[key] = tensor
    if missing := [key for key in weight_map if key not in tensors]:
        raise ValueError(f"{index_name} lists {missing[0]!r} in {weight_map[missing[0]]}, which does not hold it.")
    return tensors


def inside_folder(
    folder: Path, file_name: str, index_name: str, *, endings: tuple[str, ...] = (".safetensors", ".json")
) -> Path:
    """Return the path of a file and check that it is inside `folder`, also after symbolic links are resolved.

    Raises:
        ValueError: If the file is outside, is missing, or has another ending; names the file and its index.
    """
    plain = PurePosixPath(file_name).name == file_name == PureWindowsPath(file_name).name and file_name not in (
        ".",
        "..",
    )
    if not plain or not file_name.endswith(endings):
        raise ValueError(
            f"{index_name} names {file_name!r}; a shard must be a plain *{endings[0]} name in the same folder."
        )
    path = folder / file_name
    if not path.is_file():
        raise ValueError(f"{index_name} names {file_name!r}, which is missing.")
    root = folder.resolve()
    if root.parent.name == "snapshots" and (root.parent.parent / "blobs").is_dir():
        root = root.parent.parent  # a Hub snapshot links to the blobs of its repository
    if not path.resolve().is_relative_to(root):
        raise ValueError(f"{file_name!r} is a link that leads out of the part's folder; copy the file there.")
    return path
