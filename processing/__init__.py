# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Turn images and text into tensors. Each file can be copied into a checkpoint's folder as remote code."""
