# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Training stages, data and the glue to transformers' Trainer."""
