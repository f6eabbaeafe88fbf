# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Model files. Each can be copied into a checkpoint's folder as remote code."""
