# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Code files and config entries that let a checkpoint load where `fila` is not installed.

A checkpoint carries only the code that its config and its processor use, so that a user can review it before trusting
it. The tables of parts (`TABLES`) are rewritten with only the entries that are used. All other files are
byte-identical copies from the repository, limited to those that the files of the `auto_map` import.
"""

import ast
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from transformers.utils import logging

from fila.version import __version__

from .own_parts import own_parts_in, own_sources

if TYPE_CHECKING:
    from fila.modeling.configuration_fila import FilaConfig


logger = logging.get_logger(__name__)

PROCESSOR_AUTO_MAP = {"AutoProcessor": "processing_fila.FilaProcessor"}
IMAGE_PROCESSOR_AUTO_MAP = {
    "AutoImageProcessor": {
        "torchvision": "image_processing_fila.FilaImageProcessor",
        "pil": "image_processing_fila.FilaImageProcessorPil",
    }
}
# Every table by its file: the dicts that are written anew.
TABLES = {
    "canvas.py": ("CANVASES",),
    "connector.py": ("CONNECTORS",),
    "fusion.py": ("FUSIONS",),
    "image_drawings.py": ("DRAWINGS",),
    "injection.py": ("INJECTIONS",),
    "model_features.py": ("FEATURES",),
    "processor_features.py": ("FEATURES",),
    "tower_configs.py": ("TOWER_CONFIGS", "TOWER_FEATURES"),
    "towers.py": ("LOW_RES_TOWERS", "HIGH_RES_TOWERS"),
}
SETTINGS_FILES = ("config.json", "processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")
# Functions of the tables that only registration calls.
CHECKS = {
    f"check_{kind}"
    for kind in ("canvas", "connector", "fusion", "high_res_tower", "injection", "layout", "low_res_tower")
}
# As transformers looks for them.
RELATIVE_IMPORT = re.compile(r"^\s*from\s+\.(\w+)\s+import", re.MULTILINE)
Code = dict[str, bytes]


def own_code() -> dict[str, Path]:
    """Return every file of `fila` that may lie beside a checkpoint, by name."""
    from fila import modeling, processing

    return _files_of(modeling) | _files_of(processing)


def model_code(config: "FilaConfig") -> Code:
    """Return by name the files that a model of this config needs, or the config's files alone if it has no model."""
    from fila import modeling

    has_model = "AutoModel" in (config.to_dict().get("auto_map") or {"AutoModel": ""})
    start = "modeling_fila" if has_model else "configuration_fila"
    return _closure([start], _files_of(modeling), model_entries(config))


def processor_code(processor: object) -> Code:
    """Return by name the files that a processor, or a single image or video processor, needs."""
    from fila import processing

    owners = [processor, getattr(processor, "image_processor", None)]
    starts = [type(owner).__module__.rpartition(".")[2] for owner in owners if owner is not None]
    return _closure(starts, _files_of(processing), processor_entries(processor))


def model_entries(config: "FilaConfig") -> dict[str, set[str]]:
    """Return the names that each table of the model needs."""
    low = config.vision_config.model_type
    towers = [tower for tower in (config.high_res_vision_config, *config.extra_vision_configs) if tower]
    high = {tower.model_type for tower in towers}
    options = [getattr(tower, "tower_options", None) or {} for tower in (config.vision_config, *towers)]
    injection = config.injection["type"]
    features = {
        "injection": injection != "none",
        "pruning": config.prune or (config.preprocessing or {}).get("prune"),
        "serial_towers": config.has_serial_towers,
        "shared_positions": config.shared_positions,
        "slice_positions": config.slice_positions,
        "views_from_low_res": high and not (config.has_high_res_canvas or config.has_serial_towers),
    }
    has_merger = any(of_tower.get("merge_after") for of_tower in options)
    return {
        "FUSIONS": {config.fusion["type"]},
        "CONNECTORS": {
            config.connector["type"],
            *_types_in([config.fusion, config.connector, config.injection]),
        },
        "INJECTIONS": {injection} - {"none"},
        "LOW_RES_TOWERS": {low, *high},
        "HIGH_RES_TOWERS": high,
        "TOWER_CONFIGS": {low, *high},
        "TOWER_FEATURES": {"vit_merger"} if has_merger else set(),
        "FEATURES": {name for name, is_used in features.items() if is_used}
        | ({"videos"} if config.video_token_id is not None else set()),
    }


def processor_entries(processor: object) -> dict[str, set[str]]:
    """Return the names that each table of the processor needs."""
    videos = getattr(processor, "video_processor", None)
    images: Any = getattr(processor, "image_processor", processor)
    features = {
        "budget": getattr(processor, "max_image_tokens", None) or getattr(processor, "max_prompt_image_tokens", None),
        "pruning": getattr(processor, "prune", None),
        "token_map": getattr(getattr(processor, "_layout", None), "has_newlines", False),
        "videos": videos is not None,
    }
    return {
        "CANVASES": {owner.canvas["type"] for owner in (images, videos) if owner is not None},
        "DRAWINGS": {getattr(images, "mode", "exact"), *(["exact"] if videos is not None else [])},
        "FEATURES": {name for name, is_used in features.items() if is_used},
    }


def write_code(folder: Path, code: Code) -> None:
    """Write code into a checkpoint folder, and remove the files of `fila` there that the same part does not need.

    transformers copies every file that ours import; its copies are recognised by their content.
    """
    from fila import modeling, processing

    room = next(files for files in (_files_of(modeling), _files_of(processing)) if set(files) & set(code))
    for name, path in room.items():
        beside = folder / name
        if name not in code and beside.is_file() and beside.read_bytes() == path.read_bytes():
            beside.unlink()
    for name, content in code.items():
        (folder / name).write_bytes(content)


def write_beside(owner: object, settings_file: str | os.PathLike[str]) -> None:
    """Write the code of a config or a processor where its settings go, if transformers has copied code there.

    The caller writes the settings afterwards, so that a config stores the version and the hash of the code. If only
    an image processor is saved into the folder of a processor, the processor's code is unchanged.
    """
    folder, start = Path(settings_file).parent, type(owner).__module__.rpartition(".")[2]
    if Path(settings_file).name not in SETTINGS_FILES or not (folder / f"{start}.py").is_file():
        return
    if start == "configuration_fila":
        config = cast("FilaConfig", owner)
        code = model_code(config)
        config.fila_version, config.code_hash = __version__, code_hash(code)
        config.own_parts = own_parts_in(model_entries(config)) or None
    elif start != "processing_fila" and (folder / "processing_fila.py").is_file():
        return
    else:
        code = processor_code(owner)
        images = cast(Any, getattr(owner, "image_processor", owner))
        images.own_parts = own_parts_in(processor_entries(owner)) or None
    write_code(folder, code)


def warn_if_newer(config: "FilaConfig") -> None:
    """Warn once if a checkpoint's code is newer than the installed `fila` and differs from it."""
    if _numbers(cast(str, config.fila_version)) > _numbers(__version__) and config.code_hash != code_hash(
        model_code(config)
    ):
        logger.warning_once(
            f"The checkpoint was written by fila {config.fila_version}, and fila {__version__} is installed, whose "
            "code is used and not the checkpoint's. Upgrade with `pip install -U fila-vlm`, or open the checkpoint in "
            "a process that does not import fila."
        )


def code_hash(code: Mapping[str, bytes]) -> str:
    """Return a hash of the files, 16 hexadecimal digits."""
    found = hashlib.sha256()
    for name in sorted(code):
        found.update(f"{name}\0{len(code[name])}\0".encode() + code[name])
    return found.hexdigest()[:16]


def differing_code(folder: Path, code: Code) -> list[str]:
    """List, file by file, how a checkpoint's code differs from the code that this version of `fila` writes.

    Files of `fila` that the checkpoint does not need are accepted, because older versions wrote them.
    """
    own = own_code()
    beside = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.py")}
    if not beside:
        return [f"no code at all ({len(code)} files are missing)"]

    def is_own(name: str) -> bool:
        content = beside[name].read_bytes()
        return content == code.get(name) or (name in own and content == own[name].read_bytes())

    return [
        *(f"{name} (missing)" for name in sorted(set(code) - set(beside))),
        *(f"{name} (not of fila)" for name in sorted(set(beside) - set(own) - set(code))),
        *(f"{name} (different)" for name in sorted(set(beside) & {*own, *code}) if not is_own(name)),
    ]


def narrowed(source: str, entries: Mapping[str, Mapping[str, tuple[str, str] | None]]) -> str:
    """Return the source of a table with some of its entries.

    Args:
        source: Of the file.
        entries: Names of the entries of each dict: None for an entry of the file itself, else module and class of a
            new entry.

    Returns:
        The source, with only the imports that it still needs.
    """
    lines = source.splitlines(keepends=True)
    dropped: set[int] = set()
    added: dict[int, str] = {}
    imports: set[tuple[str, str]] = set()
    for node in ast.parse(source).body:
        name = node.target.id if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else ""
        if name not in entries:
            continue
        assert isinstance(node, ast.AnnAssign), name
        assert isinstance(node.value, ast.Dict), name
        for key, value in zip(node.value.keys, node.value.values, strict=True):
            if key is not None and ast.literal_eval(key) not in entries[name]:
                dropped |= set(range(key.lineno, (value.end_lineno or value.lineno) + 1))
        others = {part: place for part, place in entries[name].items() if place is not None}
        added[node.value.end_lineno or 0] = "".join(f'    "{part}": {place[1]},\n' for part, place in others.items())
        imports |= set(others.values())
    kept = "".join(added.get(number, "") + line for number, line in enumerate(lines, start=1) if number not in dropped)
    return _with_imports(_without_checks(kept), imports)


def _without_checks(source: str) -> str:
    """Return a table's source without the checks of parts, and their protocols, which only registration uses."""
    tree, lines = ast.parse(source), source.splitlines(keepends=True)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node, following in zip(tree.body, [*tree.body[1:], None], strict=True):
        bases = (
            {base.id for base in node.bases if isinstance(base, ast.Name)} if isinstance(node, ast.ClassDef) else ()
        )
        is_check = isinstance(node, ast.FunctionDef) and node.name in CHECKS
        if is_check or (isinstance(node, ast.ClassDef) and "Protocol" in bases and node.name not in used):
            rest = [] if following is None else lines[following.lineno - 1 :]
            return _without_checks("".join(lines[: node.lineno - 1] + rest))
    return source


def _with_imports(source: str, others: Iterable[tuple[str, str]]) -> str:
    """Return a source with the imports `others`, (module, name), and without its unused relative imports."""
    tree, lines = ast.parse(source), source.splitlines(keepends=True)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    last = 0
    for node in tree.body:
        if not isinstance(node, ast.ImportFrom):
            continue
        last = node.end_lineno or node.lineno
        if node.level != 1:
            continue
        names = [alias.name for alias in node.names if alias.name in used]
        if len(names) < len(node.names):
            text = f"from .{node.module} import {', '.join(names)}\n" if names else ""
            lines[node.lineno - 1 : last] = [text, *[""] * (last - node.lineno)]
    lines[last - 1] += "".join(f"from .{module} import {name}\n" for module, name in sorted(others))
    return "".join(lines)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:3]]


def _closure(starts: list[str], files: Mapping[str, Path], entries: Mapping[str, set[str]]) -> Code:
    """Return the files and all files that they import, with the tables narrowed to `entries`."""
    places, sources = own_sources(entries, files)
    found: Code = {}
    wanted = [*starts]
    while wanted:
        name = f"{wanted.pop()}.py"
        if name in found:
            continue
        if name in sources:
            found[name] = sources[name]
        elif name in TABLES:
            source = files[name].read_text(encoding="utf-8")
            of_file = {
                table: {part: places.get((table, part)) for part in sorted(entries[table])} for table in TABLES[name]
            }
            found[name] = narrowed(source, of_file).encode()
        else:
            found[name] = files[name].read_bytes()
        wanted += RELATIVE_IMPORT.findall(found[name].decode())
    return {name: found[name] for name in sorted(found)}


def _files_of(package: ModuleType) -> dict[str, Path]:
    folder = Path(str(package.__file__)).parent
    return {path.name: path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"}


def _types_in(options: object) -> Iterator[str]:
    """Yield the type of every part that is an option of another."""
    values = options.values() if isinstance(options, Mapping) else options if isinstance(options, list | tuple) else ()
    for value in values:
        if isinstance(value, Mapping) and isinstance(value.get("type"), str):
            yield value["type"]
        yield from _types_in(value)


def auto_map_files(auto_map: dict[str, Any]) -> set[str]:
    """Return the names of the files that an `auto_map` refers to."""
    names: set[str] = set()
    for value in auto_map.values():
        references = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        names |= {f"{reference.split('.')[0]}.py" for reference in references if isinstance(reference, str)}
    return names
