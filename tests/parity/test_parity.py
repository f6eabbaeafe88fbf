# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Pieces of ours against recorded numbers of the original systems, in float32."""

from pathlib import Path

import pytest
import torch

from tests.parity.golden import FOLDER, golden_files, relative_error
from tests.parity.pieces import FURTHER, PIECES, Piece

ROOT = Path(__file__).parents[2]
FILES = [(piece, path) for piece in (*PIECES, *FURTHER) for path in golden_files(piece.pattern)]


@pytest.mark.parametrize(
    ("piece", "path"), FILES, ids=[f"{piece.system}-{piece.piece}-{path.stem}" for piece, path in FILES]
)
@torch.no_grad()
def test_piece_equals_the_original(piece: Piece, path: Path) -> None:
    errors = {case: relative_error(ours, recorded) for case, ours, recorded in piece.check(path)}
    assert errors, f"{path.name} holds no case"
    assert max(errors.values()) <= piece.tolerance, errors


@pytest.mark.parametrize("piece", PIECES, ids=lambda piece: f"{piece.system}-{piece.piece}")
def test_every_piece_has_a_file_of_its_own(piece: Piece) -> None:
    assert any(path.parent == FOLDER for path in golden_files(piece.pattern))


def test_documented_table_has_a_row_for_every_piece() -> None:
    rows = [line.split(" | ")[:2] for line in (ROOT / "docs" / "parity.md").read_text("utf-8").splitlines()]
    assert [[f"| {piece.system}", piece.piece] for piece in PIECES] == [row for row in rows if len(row) == 2][1:]
