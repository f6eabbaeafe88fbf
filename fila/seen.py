# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Former name of `fila.look.processed_image`."""

from fila.look.processed_image import *  # noqa: F403
