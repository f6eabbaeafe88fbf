# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Published systems as data, and checks that a model and a processor fit together."""
