# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Arrows between rooms go down: drawn from every import, those inside of functions and by name included."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.repo.test_tracked_files import FOLDERS, ROOT, pyproject, tracked

# Rooms, each importing only from those before it: modules and packages by their longest prefix. modeling/ and
# processing/ import nothing of each other: their files lie beside checkpoints (test_flat_copy.py).
FLOORS = (
    ("fila.version", "fila.signals", "fila.modeling", "fila.processing"),
    ("fila.systems",),
    ("fila.conversion",),
    ("fila.training",),
    ("fila.look",),
    ("fila.cli",),
    ("fila",),  # registers the classes; the pipeline, the vLLM plugin, old names
    ("fila_cli", "fila.conversion.open_checkpoint"),  # programs
    ("fila.__main__", "projects.default_model", "projects.image_tokenizer"),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
IMPORTERS = ("import_module", "__import__", "find_spec")


def room_of(module: str) -> str:
    """Return the room with the longest prefix of a module's name."""
    return max((room for room in FLOOR_OF if f"{module}.".startswith(f"{room}.")), key=len)


def module_of(path: Path) -> str:
    """Return the name under which a file is imported, by the package map of pyproject.toml."""
    name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    folders = {folder: package for package, folder in pyproject()["tool"]["setuptools"]["package-dir"].items()}
    first, _, rest = name.partition(".")
    return ".".join(filter(None, (folders.get(first, first), rest)))


SOURCES = {module_of(path): path for path in tracked() if path.suffix == ".py"}
MODULES = {name for name in SOURCES if name.split(".")[0] in ("fila", "fila_cli", "projects")}


def imports(module: str) -> Iterator[tuple[str, str]]:
    """Yield (module, name) of everything of ours that a module imports; the name is empty for whole modules."""
    path = SOURCES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = package.rsplit(".", node.level - 1)[0] if node.level else ""
            source = ".".join(filter(None, (parent, node.module)))
            for alias in node.names:
                whole = f"{source}.{alias.name}"
                yield (whole, "") if whole in MODULES else (source, alias.name)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in IMPORTERS:
            yield from ((str(given.value), "") for given in node.args[:1] if isinstance(given, ast.Constant))


def arrows() -> set[tuple[str, str]]:
    """Return (module, imported module) for all imports of ours."""
    found = ((module, source) for module in MODULES for source, _ in imports(module))
    return {(module, source) for module, source in found if source.split(".")[0] in ("fila", "fila_cli", "projects")}


def is_wrong(module: str, source: str) -> bool:
    """Return whether an import goes up, or to another room on the same floor."""
    rooms = room_of(module), room_of(source)
    return rooms[0] != rooms[1] and FLOOR_OF[rooms[1]] >= FLOOR_OF[rooms[0]]


def test_every_room_is_on_a_floor() -> None:
    assert {room_of(module) for module in MODULES} == set(FLOOR_OF)
    assert set(pyproject()["tool"]["setuptools"]["packages"]) <= set(FLOOR_OF)
    assert {f"fila.{folder}" for folder in FOLDERS} <= set(FLOOR_OF)


def test_arrows_go_down() -> None:
    found = arrows()
    assert {("fila.conversion.import_checkpoint", "fila.systems.recipes"), ("fila_cli", "fila.cli")} <= found
    assert sorted(pair for pair in found if is_wrong(*pair)) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fila.conversion.assemble", "fila.training.data"),
        ("fila.training.data", "fila.look.estimate"),
        ("fila.modeling.towers", "fila.processing.layout"),
        ("fila.systems.recipes", "fila"),
        ("fila.cli.ask", "projects.default_model.recipe"),
        ("projects.image_tokenizer.recipe", "projects.default_model.model"),
    ],
)
def test_an_arrow_back_is_found(module: str, source: str) -> None:
    assert is_wrong(module, source)
    assert not is_wrong(source, module) or FLOOR_OF[room_of(source)] == FLOOR_OF[room_of(module)]


def test_no_private_name_is_imported() -> None:
    private = {
        (module, f"{source}.{name}")
        for module in MODULES
        for source, name in imports(module)
        if source.split(".")[0] in ("fila", "projects")
        and any(part.startswith("_") and not part.endswith("__") for part in (*source.split("."), name))
    }
    assert private == set()
