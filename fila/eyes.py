# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Former name of `fila.look.view_settings`."""

from fila.look.view_settings import *  # noqa: F403
