# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Every recorded file of VAR has a check, also those that lie elsewhere; our lists of keys are the recorded ones."""

import fnmatch
import hashlib

import pytest

from tests.parity.golden import FOLDER, read_json
from tests.parity.pieces import PIECES

DIGESTS = {
    name: digest for name, digest in read_json(FOLDER / "video_var_digests.json").items() if name.startswith("var_")
}
LISTS = [name for name in DIGESTS if name.endswith(".json")]


@pytest.mark.parametrize("name", [name for name in DIGESTS if name not in LISTS])
def test_recorded_file_has_one_check(name: str) -> None:
    assert len([piece for piece in PIECES if fnmatch.fnmatch(name, piece.pattern)]) == 1


@pytest.mark.parametrize("name", LISTS)
def test_list_of_keys_is_the_recorded_one(name: str) -> None:
    assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest()[:16] == DIGESTS[name]
