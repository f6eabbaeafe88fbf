# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The name that `fila.look.view_settings` had before."""

from fila.look.view_settings import *  # noqa: F403
