# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Pages that scripts write are what the scripts write today, and the reference shows every public name."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import fila

DOCS = Path(__file__).parents[2] / "docs"


def script(name: str) -> ModuleType:
    """A script of docs/, as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "path"), [("make_messages", "messages.md"), ("make_commands", "reference/commands.md")], ids=str
)
def test_page_is_up_to_date(name: str, path: str) -> None:
    assert script(name).page() == (DOCS / path).read_text(encoding="utf-8"), f"run `python docs/{name}.py docs`"


def test_messages_of_every_form_are_found(tmp_path: Path) -> None:
    path = tmp_path / "made.py"
    path.write_text(
        '"""Made."""\n_FIX = f"Call {1}."\nMORE = "Pass {name} instead."\n'
        'def check(x):\n    if x:\n        raise ValueError(f"`x` must be one; got {x}. {_FIX}")\n'
        '    if not x:\n        return UnusableImage("is no image", fix="Pass one")\n'
        '    torch_compilable_check(x > 1, f"`x` must be more than 1; got {x}.")\n'
        "    raise KeyError(MORE.format(name=x)) from None\n",
        encoding="utf-8",
    )
    assert script("make_messages").raised(path) == [
        ("ValueError", "`x` must be one; got .... Call ...."),
        ("UnusableImage", "... is no image. Pass one."),
        ("ValueError", "`x` must be more than 1; got ...."),
        ("KeyError", "Pass ... instead."),
    ]


def test_reference_shows_every_public_name() -> None:
    shown = "\n".join(path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md"))
    places = [line.removeprefix("::: ") for line in shown.splitlines() if line.startswith("::: ")]
    for name in fila.__all__:
        owner = getattr(fila, name).__module__
        assert {owner, f"{owner}.{name}", f"fila.{name}"} & set(places), name
    for place in places:  # a module or a name of a module
        module, _, name = place.rpartition(".")
        found = importlib.util.find_spec(module)
        assert found is not None
        assert hasattr(importlib.import_module(module), name) or importlib.util.find_spec(place), place
