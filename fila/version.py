# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The version, in a file without imports, so that a clone that is not installed has one too."""

__version__ = "0.1.0"
