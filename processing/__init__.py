# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The processor files: each can lie beside a checkpoint."""
