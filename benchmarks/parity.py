# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Measures how far every piece is from the original system it is equal to, and writes docs/parity.md.

    python benchmarks/parity.py [PATH]

Reads the recorded numbers of tests/golden, and those of the folder that FILA_GOLDEN names where it is set.
"""

import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.parity.golden import golden_files, relative_error  # noqa: E402
from tests.parity.pieces import PIECES  # noqa: E402

HEAD = """# Parity

How far each piece is from numbers recorded of the original code: the largest difference as a share of the largest
recorded value, in float32 on the CPU, over all cases of all files. 0 is equal bit by bit; "exact" are integers.
`tests/parity/` fails above the bound. Which commit of which system was recorded stands in the module's head.

Not compared for want of a recording: VAR's tokenizer as a whole, whose parts are below, and VideoLLaMA 2's `stc_v35`.

Written by `benchmarks/parity.py`.

| system | piece | ours | files | cases | worst error | bound |
|---|---|---|---|---|---|---|
"""


def main(path: Path) -> None:
    """Measure every piece and write the table."""
    torch.set_num_threads(1)
    lines = []
    for piece in PIECES:
        files = golden_files(piece.pattern)
        with torch.no_grad():
            cases = [case for file in files for case in piece.check(file)]
        worst = max(relative_error(ours, recorded) for _, ours, recorded in cases)
        integers = not any(recorded.is_floating_point() for _, _, recorded in cases)
        error = "exact" if integers and worst == 0 else "0" if worst == 0 else f"{worst:.1e}"
        ours = ", ".join(f"`{name if '/' in name else f'modeling/{name}'}`" for name in piece.ours.split(", "))
        row = (
            piece.system,
            piece.piece,
            ours,
            len(files),
            len(cases),
            error,
            "exact" if integers else piece.tolerance,
        )
        lines.append("| " + " | ".join(map(str, row)) + " |")
        print(lines[-1])
    path.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "parity.md")
