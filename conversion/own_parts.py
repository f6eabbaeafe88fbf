# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Parts of other packages: registration, lookup by a config's names, and their files in checkpoints.

A package calls `fila.register_part("fusion", "film", FilmFusion)`, or declares the entry point `fusion.film` in the
group `fila.parts`, which is loaded when a config names the part. A checkpoint's setting `own_parts` names the file in
the checkpoint that defines each such part; `load_parts` registers the parts from these files.
"""

import ast
import os
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from transformers import CONFIG_MAPPING
from transformers.dynamic_module_utils import get_class_from_dynamic_module
from transformers.utils import cached_file

from fila.modeling import connector, fusion, injection, tower_configs, towers
from fila.processing import canvas, layout

from .pretrained_part import read_json

GROUP = "fila.parts"
# By kind: the name of the table in its file, the table, and the check of a part.
KINDS: dict[str, tuple[str, dict[str, Any], Any]] = {
    "fusion": ("FUSIONS", fusion.FUSIONS, fusion.check_fusion),
    "connector": ("CONNECTORS", connector.CONNECTORS, connector.check_connector),
    "injection": ("INJECTIONS", injection.INJECTIONS, injection.check_injection),
    "low_res_tower": ("LOW_RES_TOWERS", towers.LOW_RES_TOWERS, towers.check_low_res_tower),
    "high_res_tower": ("HIGH_RES_TOWERS", towers.HIGH_RES_TOWERS, towers.check_high_res_tower),
    "canvas": ("CANVASES", canvas.CANVASES, canvas.check_canvas),
    "layout": ("LAYOUTS", layout.LAYOUTS, layout.check_layout),
}
# The files of the tables.
FILES = {
    "FUSIONS": "fusion",
    "CONNECTORS": "connector",
    "INJECTIONS": "injection",
    "LOW_RES_TOWERS": "towers",
    "HIGH_RES_TOWERS": "towers",
    "TOWER_CONFIGS": "tower_configs",
    "CANVASES": "canvas",
}
TOWER_CONFIGS = ("TOWER_CONFIGS", tower_configs.TOWER_CONFIGS)
SETTINGS = ("config.json", "processor_config.json", "preprocessor_config.json")
_TOWERS = ("tower", "low_res_tower", "high_res_tower")
_OF_DYNAMIC_MODULES = "transformers_modules"
Places = dict[tuple[str, str], tuple[str, str]]

# The classes that were registered, by the name of their table and their own.
_registered: dict[tuple[str, str], Any] = {}


def register_part(kind: str, name: str, part: type | layout.Layout) -> None:
    """Register a part of your own, so that configs can name it and it works like fila's own parts.

    Args:
        kind: `fusion`, `connector`, `injection`, `canvas`, `layout`, `low_res_tower` or `high_res_tower`; `tower` is
            whichever of the two the class can be.
        name: Name in configs: the `type` of the part's options, or the `model_type` of a tower's config.
        part: The class, or the `Layout`.

    Raises:
        ValueError: If the kind is unknown, the name belongs to fila or to another class, the class is defined in
            `__main__`, or it lacks a declaration that its kind requires.
    """
    if kind != "tower" and kind not in KINDS:
        raise ValueError(f"`kind` must be one of {[*KINDS, 'tower']}; got {kind!r}.")
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"`name` must be a name such as 'film'; got {name!r}.")
    if getattr(part, "__module__", None) == "__main__":
        raise ValueError(
            f"Class {cast(type, part).__name__} is defined in a script, whose file a checkpoint cannot carry. Move it "
            "into a module, and import it from there."
        )
    for own in _kinds_of_tower(name, part) if kind == "tower" else [kind]:
        table_name, table, check = KINDS[own]
        known = _registered.get((table_name, name))
        if name in table and (known is None or _place(known) != _place(part)):
            whose = "fila's own" if known is None else f"that of {known.__module__}.{known.__name__}"
            raise ValueError(f"The {own.replace('_', ' ')} {name!r} is {whose}; choose another name.")
        check(name, part)
        table[name] = _registered[table_name, name] = part
        config_class = getattr(part, "config_class", None)
        if own.endswith("tower") and name not in CONFIG_MAPPING and config_class is not None:
            TOWER_CONFIGS[1][name] = _registered[TOWER_CONFIGS[0], name] = config_class


def find_part(kind: str, name: object) -> None:
    """Load an unregistered part that a config names from its entry point, if it has one."""
    kinds = _TOWERS if kind in _TOWERS else (kind,)
    for entry in entry_points(group=GROUP):
        own, _, known = entry.name.partition(".")
        if own in kinds and known == name:
            register_part(own, name, entry.load())


def require_parts(own_parts: Mapping[str, str], folder: object = None) -> None:
    """Check that the parts which a checkpoint's settings list are registered, or have an entry point.

    Args:
        own_parts: By `kind.name` the file and class beside the checkpoint, as "fusion_film.FilmFusion".
        folder: The checkpoint, for the message.

    Raises:
        ValueError: If a part is neither; names its file and how to register it.
    """
    for part, place in own_parts.items():
        kind, _, name = part.partition(".")
        if kind not in KINDS or name in KINDS[kind][1]:
            continue
        find_part(kind, name)
        if name not in KINDS[kind][1]:
            path = "path" if folder is None else repr(str(folder))
            raise ValueError(
                f"The {kind.replace('_', ' ')} {name!r} is defined by {place.split('.')[0]}.py beside the checkpoint, "
                "and is not registered. Install or import the package that it is from. Or, if you have read the file "
                f"and trust it, call `fila.load_parts({path}, trust_remote_code=True)` first; on the command line, "
                "pass `--trust-remote-code`."
            )


def load_parts(path: str | os.PathLike[str], *, trust_remote_code: bool = False, **options: Any) -> list[str]:
    """Register the parts that a checkpoint's files define and that are not registered yet.

    Args:
        path: Folder or Hub id.
        trust_remote_code: Must be True, because the files are run.
        options: Options for the download from the Hub, such as `revision`.

    Returns:
        The registered parts, as `kind.name`.

    Raises:
        ValueError: If such parts exist and `trust_remote_code` is not True.
    """
    listed: dict[str, str] = {}
    for name in SETTINGS:
        file = cached_file(path, name, _raise_exceptions_for_missing_entries=False, **options)
        settings = read_json(Path(file)) if file else {}
        images = settings.get("image_processor")
        listed |= settings.get("own_parts") or {}
        listed |= (images.get("own_parts") or {}) if isinstance(images, dict) else {}
    missing = {part: place for part, place in listed.items() if not _is_known(part)}
    if missing and not trust_remote_code:
        files = sorted({f"{place.split('.')[0]}.py" for place in missing.values()})
        raise ValueError(
            f"Code of the checkpoint must be trusted to register {sorted(missing)}. Read {files}, then pass "
            "`trust_remote_code=True`."
        )
    for part, place in missing.items():
        kind, _, name = part.partition(".")
        register_part(kind, name, get_class_from_dynamic_module(place, path, **options))
    return sorted(missing)


def own_parts_in(entries: Mapping[str, set[str]]) -> dict[str, str]:
    """Return by `kind.name` the file and class of every registered part among the entries of tables."""
    return {
        f"{kind}.{name}": f"{_stem(_registered[table, name])}.{_registered[table, name].__name__}"
        for kind, (table, _, _) in KINDS.items()
        for name in sorted(entries.get(table, ()))
        if (table, name) in _registered
    }


def own_sources(entries: Mapping[str, set[str]], siblings: Mapping[str, Path]) -> tuple[Places, dict[str, bytes]]:
    """Return where the registered parts among the entries of tables are defined, and the sources of their files.

    Args:
        entries: By the name of a table the names that it needs.
        siblings: The files of fila that lie beside such a part.

    Returns:
        Module and class of each part by table and name; and by file name what lies beside the checkpoint.

    Raises:
        ValueError: If a file imports a module that cannot be copied into a checkpoint; names the file and the line.
    """
    places: Places = {}
    sources: dict[str, bytes] = {}
    for table, names in entries.items():
        for name in sorted(names):
            if (part := _registered.get((table, name))) is not None:
                places[table, name] = _stem(part), part.__name__
                _add_file(str(part.__module__), FILES[table], sources, siblings)
    return places, sources


def _add_file(module: str, table: str, sources: dict[str, bytes], siblings: Mapping[str, Path]) -> None:
    """Add the file of a module, rewritten, and those of its own package that it imports; `table` imports it."""
    path = _file_of(module)
    if path.name in sources:
        return
    if path.name in siblings:
        raise ValueError(f"{path} has the name of a file of fila, which lies beside the checkpoint too. Rename it.")
    text = path.read_text(encoding="utf-8")
    of_fila = {Path(name).stem for name in siblings}
    lines, needed = text.splitlines(keepends=True), []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        target = _target(node, module, path, siblings)
        if target is None:
            continue
        stem = target.rpartition(".")[2]
        if stem == table:
            raise _refusal(path, node, f"an import of the table {stem!r}, which itself imports this file")
        assert isinstance(node, ast.ImportFrom)
        line = lines[node.lineno - 1]
        written = "." * node.level + (node.module or "")
        lines[node.lineno - 1] = line.replace(f"from {written} import", f"from .{stem} import", 1)
        if target.partition(".")[0] != "fila" and target not in of_fila:
            needed.append(target)
    sources[path.name] = "".join(lines).encode()
    for target in needed:
        _add_file(target, table, sources, siblings)


def _target(node: ast.Import | ast.ImportFrom, module: str, path: Path, siblings: Mapping[str, Path]) -> str | None:
    """Return the module that an import statement names, if it has to lie beside the checkpoint; None for any other."""
    package, top = module.rpartition(".")[0], module.partition(".")[0]
    if isinstance(node, ast.Import):
        own = [alias.name for alias in node.names if alias.name.partition(".")[0] in ("fila", top)]
        if own and (own[0].partition(".")[0] == "fila" or package):
            raise _refusal(path, node, f"`import {own[0]}`")
        return None
    name = node.module or ""
    if node.level > 1:
        raise _refusal(path, node, "an import from a package above")
    if node.level == 0 and name.partition(".")[0] != "fila" and (not package or name.partition(".")[0] != top):
        return None
    if not name or any(alias.name == "*" for alias in node.names):
        raise _refusal(path, node, "an import of whole modules or of everything")
    if node.level == 1 and "." in name:
        raise _refusal(path, node, f"`from .{name} import`, from a folder below")
    if node.level == 1 and top == _OF_DYNAMIC_MODULES and f"{name}.py" in siblings:
        return name
    target = f"{package}.{name}" if node.level == 1 and package else name
    if target.partition(".")[0] == "fila" and f"{target.rpartition('.')[2]}.py" not in siblings:
        raise _refusal(path, node, f"`from {name} import`, which does not lie beside a checkpoint")
    if find_spec(target) is None or _is_package(target):
        raise _refusal(path, node, f"`from {name} import`, which is no file")
    return target


def _refusal(path: Path, node: ast.Import | ast.ImportFrom, what: str) -> ValueError:
    return ValueError(
        f"{path}, line {node.lineno}: a checkpoint cannot carry {what}. Import names from single files, with `from "
        "fila.modeling.x import`, `from fila.processing.x import` or `from .helpers import`."
    )


def _is_package(module: str) -> bool:
    spec = find_spec(module)
    return spec is not None and spec.submodule_search_locations is not None


def _file_of(module: str) -> Path:
    loaded = sys.modules.get(module)
    spec = None if loaded is not None else find_spec(module)
    return Path(str(spec.origin if spec is not None else getattr(loaded, "__file__", None)))


def _stem(part: type) -> str:
    return _file_of(part.__module__).stem


def _place(part: type | layout.Layout) -> tuple[str, str]:
    """Return a key that identifies a class even when its file is run again and defines it anew."""
    return getattr(part, "__module__", ""), getattr(part, "__qualname__", repr(part))


def _is_known(part: str) -> bool:
    kind, _, name = part.partition(".")
    if kind in KINDS and name not in KINDS[kind][1]:
        find_part(kind, name)
    return kind not in KINDS or name in KINDS[kind][1]


def _kinds_of_tower(name: str, part: type | layout.Layout) -> list[str]:
    """Return the kinds of tower whose required declarations a class has.

    Raises:
        ValueError: If it can be neither; names the declarations that a high-res tower requires and it lacks.
    """
    found = []
    for kind in ("low_res_tower", "high_res_tower"):
        try:
            KINDS[kind][2](name, part)
            found.append(kind)
        except ValueError as error:
            refusal = error
    if not found:
        raise refusal
    return found
