# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The checkpoint, the images and the command of tests/cli."""

from tests.cli.conftest import blank, broken, checkpoint, fila, image  # noqa: F401
