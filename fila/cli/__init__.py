# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The `fila` command, a file for each group of commands. They register with `app` when they are imported."""

from fila.cli import commands_app, commands_ask, commands_checkpoints, commands_images, commands_run, commands_training
from fila.cli.common import app

__all__ = [
    "app",
    "commands_app",
    "commands_ask",
    "commands_checkpoints",
    "commands_images",
    "commands_run",
    "commands_training",
]
