# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Run the notebooks and store what they print and draw, small enough for the repository.

    python docs/make_notebooks.py docs/notebooks

Needs nbclient and ipykernel (the extra `test`). Pictures become PNGs of few colours; what goes to standard error is
not kept.
"""

import base64
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

COLOURS = 32
WIDEST = 900


def small(png: str) -> str:
    """Return a picture of few colours."""
    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        drawn = picture.convert("RGB")
    drawn.thumbnail((WIDEST, WIDEST))
    target = io.BytesIO()
    drawn.quantize(COLOURS, dither=Image.Dither.NONE).save(target, "PNG", optimize=True)
    return base64.b64encode(target.getvalue()).decode()


def kept(output: Any) -> Any:
    """Return an output as it is stored; None if it is not."""
    if output.output_type == "stream":
        return output if output.name == "stdout" else None
    if "image/png" in output.data:
        output.data = {"image/png": small(output.data["image/png"])}
    else:
        output.data = {"text/plain": output.data["text/plain"]}
    output.metadata = {}
    return output


def run(path: Path) -> Any:
    """Run a notebook in a kernel and an empty folder; return it with the outputs that are stored."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}}).execute()
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(kept, cell.outputs) if output is not None]
            cell.execution_count = None
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = None
    notebook.metadata = {"language_info": {"name": "python"}}
    return notebook


if __name__ == "__main__":
    for place in sorted(Path(sys.argv[1]).glob("*.ipynb")):
        nbformat.write(run(place), place)
