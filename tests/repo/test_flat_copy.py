# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The files of modeling/ and processing/ can lie beside a checkpoint: flat, together, without `fila`."""

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from transformers.dynamic_module_utils import get_imports, get_relative_imports

from tests.cases import each

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("modeling", "processing")
FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.py")) if path.name != "__init__.py"]
# What a user of a checkpoint has.
ALLOWED = {"torch", "numpy", "PIL", "huggingface_hub", "transformers"}
# reached through `processor_needs_fila.py` alone, which never is copied together with it
OF_FILA = {"image_document.py": {"pypdfium2"}}

each_file = each("path", FILES)


def imports_of(path: Path) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node


def packages_of(node: ast.Import | ast.ImportFrom) -> set[str]:
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    return {name.split(".")[0] for name in names}


def siblings_of(path: Path) -> set[str]:
    return {node.module or "" for node in imports_of(path) if isinstance(node, ast.ImportFrom) and node.level == 1}


@each_file
def test_imports_are_what_a_checkpoint_user_has(path: Path) -> None:
    absolute = [node for node in imports_of(path) if isinstance(node, ast.Import) or node.level == 0]
    found = set().union(*map(packages_of, absolute)) - set(sys.stdlib_module_names)
    assert found <= ALLOWED | {"torchvision"} | OF_FILA.get(path.name, set())


@each_file
def test_torchvision_is_never_needed(path: Path) -> None:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    unguarded = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert "torchvision" not in set().union(*map(packages_of, unguarded))
    assert set(get_imports(path)) <= ALLOWED | set(sys.stdlib_module_names)


@each_file
def test_relative_imports_name_a_file_of_the_same_folder(path: Path) -> None:
    relative = [node for node in imports_of(path) if isinstance(node, ast.ImportFrom) and node.level > 0]
    assert all(node.level == 1 and node.module and "." not in node.module for node in relative)
    missing = {name for name in siblings_of(path) if not (path.parent / f"{name}.py").is_file()}
    assert not missing


@each_file
def test_transformers_sees_exactly_the_relative_imports(path: Path) -> None:
    # transformers searches the text, so a line of a docstring that begins like an import counts as one
    assert set(get_relative_imports(path)) == siblings_of(path)


@each_file
def test_no_module_is_imported_under_a_folder_name(path: Path) -> None:
    banned = {"modeling", "processing", "conversion", "training", "fila"}
    assert (
        not set().union(set(), *(packages_of(node) for node in imports_of(path) if not getattr(node, "level", 0)))
        & banned
    )


def test_no_file_name_is_in_both_folders() -> None:
    assert len({path.name for path in FILES}) == len(FILES)


def test_flat_copy_imports_without_fila(tmp_path: Path) -> None:
    package = tmp_path / "checkpoint"
    package.mkdir()
    for path in FILES:
        shutil.copyfile(path, package / path.name)
    names = [f"checkpoint.{path.stem}" for path in FILES]
    code = f"""
import importlib, sys
sys.modules["fila"] = None  # importing it raises ImportError
sys.path.insert(0, {str(tmp_path)!r})
for name in {names}:
    importlib.import_module(name)
"""
    process = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
