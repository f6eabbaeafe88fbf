# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Training stages, data, collator and the subclass of transformers' Trainer."""
