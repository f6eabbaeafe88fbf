# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Former name of `fila.systems.recipes`."""

from fila.systems.recipes import *  # noqa: F403
