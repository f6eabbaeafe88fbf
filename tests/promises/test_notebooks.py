# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The notebooks of docs/notebooks/: their cells run one after the other and print what is stored below them.

Here in this process, with one step of training; at night `tests/cli/test_docs_notebooks.py` runs them in a kernel.
"""

import ast
import contextlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import logging

from fila.conversion import own_parts
from fila.modeling import fusion
from tests.promises.shipped import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
STEPS = "max_steps=24"


def cells(path: Path) -> list[tuple[str, str, bool]]:
    """Return (code, printed text, whether a picture is shown) of the cells of a notebook that have code."""
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [
        (
            "".join(cell["source"]),
            "".join("".join(output["text"]) for output in cell["outputs"] if output["output_type"] == "stream"),
            any("image/png" in output.get("data", {}) for output in cell["outputs"]),
        )
        for cell in found
        if cell["cell_type"] == "code"
    ]


def run(code: str, names: dict[str, Any]) -> tuple[str, bytes | None]:
    """Run a cell as a kernel does; return what it prints, and the picture that is its last expression."""
    first, _, rest = code.partition("\n")
    if first.startswith("%%writefile "):
        Path(first.split()[1]).write_text(rest, encoding="utf-8")
        return f"Writing {first.split()[1]}\n", None
    module = ast.parse(code)
    last = module.body.pop() if isinstance(module.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        exec(compile(module, "<cell>", "exec"), names)
        value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names) if last else None
    return shown.getvalue(), getattr(value, "_repr_png_", lambda: None)()


@pytest.fixture
def _kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in an empty folder; put back what a notebook changes in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(own_parts, "_registered", {})
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    yield
    logging.set_verbosity(verbosity)
    (logging.enable_progress_bar if bars else logging.disable_progress_bar)()
    sys.modules.pop("gated_sum", None)
    fusion.FUSIONS.pop("gated_sum", None)


@pytest.mark.usefixtures("_kernel")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_shows_what_comes_out(path: Path) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    trained = False
    for code, told, has_picture in cells(path):
        printed, picture = run(code.replace(STEPS, "max_steps=1"), names)
        trained |= STEPS in code
        assert (picture is not None) == has_picture
        if not trained:
            assert printed == told


def test_notebooks_are_small_and_show_pictures() -> None:
    assert [path.name[:3] for path in NOTEBOOKS] == ["01_", "02_", "03_"]
    for path in NOTEBOOKS:
        assert path.stat().st_size < 200_000
        assert any(has_picture for _, _, has_picture in cells(path))
