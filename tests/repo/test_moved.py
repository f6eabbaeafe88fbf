# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""docs/moved.json: old names of modules and of what they hold, to where they are now, or to null."""

import importlib
import importlib.util
import json

from tests.repo.test_tracked_files import ROOT

MOVED: dict[str, str | None] = json.loads((ROOT / "docs" / "moved.json").read_text(encoding="utf-8"))
# Docs named these modules, so they still import.
ALIASES = {"fila.eyes", "fila.recipes", "fila.seen"}


def is_there(name: str) -> bool:
    """Return whether a module has the attribute after the colon, if one is named; the module must import."""
    module, _, attribute = name.partition(":")
    return hasattr(importlib.import_module(module), attribute or "__name__")


def test_new_names_are_there() -> None:
    assert [name for name in MOVED.values() if name is not None and not is_there(name)] == []


def test_old_modules_are_gone_but_for_those_that_docs_named() -> None:
    modules = {name for name in MOVED if ":" not in name}
    assert {name for name in modules if importlib.util.find_spec(name)} == ALIASES
    for name in ALIASES:
        old, new = importlib.import_module(name), importlib.import_module(str(MOVED[name]))
        public = {key for key, value in vars(new).items() if getattr(value, "__module__", "") == new.__name__}
        assert {key for key in public if key[0] != "_"} <= set(vars(old))
