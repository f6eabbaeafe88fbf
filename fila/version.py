# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The version, in a file that imports nothing: also a clone that nobody installed has one."""

__version__ = "0.1.0"
