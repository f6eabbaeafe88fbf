# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The files of parts that a user's package defines, as they lie beside a checkpoint."""

from collections.abc import Mapping

Places = dict[tuple[str, str], tuple[str, str]]


def own_sources(entries: Mapping[str, set[str]]) -> tuple[Places, dict[str, bytes]]:
    """Return where the parts among `entries` that are not fila's are defined, and the sources of their files."""
    return {}, {}
