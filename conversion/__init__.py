# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Conversion of weights: assemble, import, export and verify FILA checkpoints."""
