# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Images and text in, tensors out; every file here can lie beside a checkpoint."""
