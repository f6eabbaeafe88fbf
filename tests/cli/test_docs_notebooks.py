# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The notebooks in the kernel that their readers have, with the whole training."""

from pathlib import Path
from typing import Any

import pytest

from tests.promises.test_notebooks import NOTEBOOKS, cells
from tests.repo.test_generated_pages import script


@pytest.mark.nightly
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_in_a_kernel(path: Path) -> None:
    ran: Any = script("make_notebooks").run(path)
    printed = [
        "".join(output.text for output in cell.outputs if output.output_type == "stream")
        for cell in ran.cells
        if cell.cell_type == "code"
    ]
    told = [text for _, text, _ in cells(path)]
    right = [index for index, text in enumerate(told) if " of 8" in text][1:]  # another CPU may round one otherwise
    assert [text for index, text in enumerate(printed) if index not in right] == [
        text for index, text in enumerate(told) if index not in right
    ]
    assert all(int(printed[index].split()[0]) >= 6 for index in right)
