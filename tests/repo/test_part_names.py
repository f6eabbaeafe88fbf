# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""No list of part names outside of the tables: what a part can do, its class declares.

Found by the syntax tree: every string that is the name of a part and nothing else, and every comparison of a part's
type with a string. `{"type": name}` chooses a part, and `"type": name` in a dict is not found.
"""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from fila.modeling.connector import CONNECTORS
from fila.modeling.fusion import FUSIONS
from fila.modeling.towers import HIGH_RES_TOWERS
from fila.processing.canvas import CANVASES
from fila.processing.layout import LAYOUTS

ROOT = Path(__file__).parents[2]
ROOMS = ("modeling", "processing", "conversion", "training", "fila")
TABLES = (
    "modeling/fusion.py",
    "modeling/connector.py",
    "modeling/towers.py",
    "modeling/tower_configs.py",  # of towers, configs that transformers does not have
    "processing/canvas.py",
)
CLASSES = {**FUSIONS, **CONNECTORS, **HIGH_RES_TOWERS, **CANVASES}
# Names by the file of their class.
OWN = {
    file: {name for name, part in CLASSES.items() if Path(inspect.getfile(part)).name == file}
    for file in {Path(inspect.getfile(part)).name for part in CLASSES.values()}
}
PARTS = {*CLASSES, *LAYOUTS}
# Names that are words of other things too; they count where they are compared with a part's type.
WORDS = {"fila", "none", "single", "linear", "native", "identity", "resampler", "internvl", "leo", "llava_next", "se"}
# What knows originals by their names: rules that read their files.
OF_ORIGINALS = ("conversion/rules_", "conversion/system")
EXCEPTIONS = {
    "modeling/configuration_fila.py": {"clip_vision_model", "convnext", "cvfm", "none"},  # defaults
    "modeling/configuration_eva02.py": {"eva02"},  # the tower's own config
    "modeling/configuration_eva2_clip.py": {"eva2_clip"},
    "conversion/processor_files.py": {"pix2struct_vision_model"},  # its checkpoints have no file of a normalisation
}


def found(path: str) -> list[tuple[int, str]]:
    """Lines and names of a file's strings that name parts."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    chosen = {id(value) for key, value in _items(tree) if getattr(key, "value", None) == "type"}
    compared = {id(each) for node in ast.walk(tree) if _compares_type(node) for each in ast.walk(node)}
    names = []
    for node in ast.walk(tree):
        name = getattr(node, "value", None) if isinstance(node, ast.Constant) else None
        if not isinstance(name, str) or name not in PARTS or id(node) in chosen:
            continue
        own = {*EXCEPTIONS.get(path, ()), *OWN.get(Path(path).name, ())}
        if name not in own and (name not in WORDS or id(node) in compared):
            names.append((node.lineno, name))
    return names


def _items(tree: ast.AST) -> Iterator[tuple[ast.expr | None, ast.expr]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            yield from zip(node.keys, node.values, strict=True)


def _compares_type(node: ast.AST) -> bool:
    """Whether a node compares the type of a part, or something called like a part."""
    if not isinstance(node, ast.Compare):
        return False
    words = ("'type'", "model_type", "fusion", "connector", "canvas", "tower")
    return any(word in ast.unparse(node) for word in words)


def files() -> list[str]:
    paths = [path for room in ROOMS for path in (ROOT / room).rglob("*.py") if path.resolve() == path]
    of_parts = [path.relative_to(ROOT).as_posix() for path in sorted(paths)]
    skipped = (*TABLES, "processing/layout.py", *OF_ORIGINALS)
    return [path for path in of_parts if not path.startswith(skipped)]


def test_no_list_of_part_names_outside_of_the_tables() -> None:
    hits = {path: names for path in files() if (names := found(path))}
    assert hits == {}, "a part's class declares what the rest asks; see docs/add_a_*.md"


def test_what_is_looked_for_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fila").mkdir()
    lines = ['A = ("stc", "stp")', 'B = config.fusion["type"] == "none"', 'C = {"type": "mlp"}', 'D = norm == "none"']
    (tmp_path / "fila" / "a.py").write_text("\n".join(lines))
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    assert found("fila/a.py") == [(1, "stc"), (1, "stp"), (2, "none")]


def test_every_exception_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    excepted = {path: set(names) for path, names in EXCEPTIONS.items()}
    monkeypatch.setattr(f"{__name__}.EXCEPTIONS", {})
    assert {path: {name for _, name in found(path)} for path in excepted} == excepted
