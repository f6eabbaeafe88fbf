# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Every recorded file has a test, also those of VAR and of the video systems that lie elsewhere."""

import fnmatch
import hashlib

import pytest
import torch

from tests.parity.golden import FOLDER, golden_files, read_json, relative_error
from tests.parity.pieces import PIECES

DIGESTS = read_json(FOLDER / "video_var_digests.json")
LISTS = [name for name in DIGESTS if name.endswith(".json")]
TESTS = "".join(path.read_text("utf-8") for path in sorted(FOLDER.parent.rglob("*.py")))
# Files that we have never seen, of functions of which we have no other recording; what they do is tested by hand.
UNSEEN = {
    "cogvlm2video_positions_scale.safetensors": "tests/modeling/test_shared_positions.py",
    "videollama2_embed_merge.safetensors": "tests/modeling/test_video_features.py",
    "videollama2_pad_grid.safetensors": "tests/processing/test_canvas_square_pad.py",
    "videollama2_process_video.safetensors": "tests/processing/test_video_processing_fila.py",
}


def checks(name: str) -> int:
    return sum(fnmatch.fnmatch(name, piece.pattern) for piece in PIECES)


@pytest.mark.parametrize("name", [name for name in DIGESTS if name.startswith("var_") and name not in LISTS])
def test_recorded_file_has_one_check(name: str) -> None:
    assert checks(name) == 1


@pytest.mark.parametrize("name", sorted({*DIGESTS, *(path.name for path in FOLDER.iterdir())} - {"README.md"}))
def test_recorded_file_is_read_by_a_test(name: str) -> None:
    assert checks(name) or name in TESTS
    assert (name not in UNSEEN) or (FOLDER.parents[1] / UNSEEN[name]).is_file()


def test_difference_that_is_no_number_is_no_agreement() -> None:
    one, nothing = torch.tensor([1.0, 2.0]), torch.tensor([float("nan"), 2.0])
    assert relative_error(nothing, one) == relative_error(one, torch.zeros(2)) == float("inf")
    assert relative_error(torch.zeros(2), torch.zeros(2)) == 0.0
    assert relative_error(torch.tensor([1.5]), torch.tensor([1])) == float("inf")


def test_folder_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FILA_GOLDEN", "nowhere")
    with pytest.raises(NotADirectoryError, match="FILA_GOLDEN must name a folder of recorded numbers; got 'nowhere'"):
        golden_files("var_*")


@pytest.mark.parametrize("name", LISTS)
def test_list_of_keys_is_the_recorded_one(name: str) -> None:
    assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest()[:16] == DIGESTS[name]
