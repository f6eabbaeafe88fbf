# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Weights in, checkpoints out: assemble a FILA checkpoint from its parts and verify one."""
