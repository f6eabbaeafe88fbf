# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The name that `fila.systems.recipes` had before."""

from fila.systems.recipes import *  # noqa: F403
