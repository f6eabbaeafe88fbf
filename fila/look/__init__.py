# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Pictures of what a model sees of an image, and what images cost."""
