# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The command of tests/cli."""

from tests.cli.conftest import fila  # noqa: F401
