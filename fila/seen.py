# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The name that `fila.look.processed_image` had before."""

from fila.look.processed_image import *  # noqa: F403
