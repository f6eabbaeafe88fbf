# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""`python -m fila` is the `fila` command."""

from fila_cli import main

if __name__ == "__main__":
    main()
