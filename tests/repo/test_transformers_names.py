# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""docs/transformers_names.md lists what we rely on of transformers; a private name has a reason."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def names() -> Any:
    spec = importlib.util.spec_from_file_location("make_transformers_names", DOCS / "make_transformers_names.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_private_name_has_a_reason(names: Any) -> None:
    unlisted = {key: where for key, where in names.rows().items() if names.kind(*key) == "unlisted"}
    assert not unlisted, "use a public name, or give the reason in PRIVATE of docs/make_transformers_names.py"


def test_no_reason_outlives_its_name(names: Any) -> None:
    # an older transformers lacks some of the names, so they are looked for in the sources
    sources = "\n".join((DOCS.parent / file).read_text(encoding="utf-8") for file, _ in names.files())
    assert [name for name in {**names.PRIVATE, **names.FOR_MODELS} if name not in sources] == []


def test_an_import_out_of_a_models_file_is_private(names: Any) -> None:
    assert names.kind("CLIPMLP", "imported from `transformers.models.clip.modeling_clip`") == "unlisted"
    assert names.kind("CLIPAttention", "imported from `transformers.models.clip.modeling_clip`") == "private"
    assert (
        names.kind("AutoImageProcessor", "imported from `transformers.models.auto.image_processing_auto`") == "public"
    )
    assert names.kind("_made_up", "overridden") == "unlisted"


def test_the_page_has_every_name(names: Any) -> None:
    # older versions have other public attributes in their base classes
    page = (DOCS / "transformers_names.md").read_text(encoding="utf-8")
    lines = [line for line in names.page().splitlines() if line.startswith("| `_") or "| imported from" in line]
    assert [line for line in lines if line not in page] == [], "run `python docs/make_transformers_names.py docs`"
