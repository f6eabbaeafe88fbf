# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Every recorded file has a test, also those of VAR and of the video systems that lie elsewhere."""

import fnmatch
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from fila.modeling.connector import CONNECTORS
from tests.cases import each
from tests.parity import var, videollama2
from tests.parity.golden import FOLDER, golden_files, read, read_json, relative_error, text_width
from tests.parity.pieces import FURTHER, PIECES

DIGESTS = read_json(FOLDER / "video_var_digests.json")
LISTS = [name for name in DIGESTS if name.endswith(".json")]
SOURCES = [path for path in sorted(FOLDER.parent.rglob("*.py")) if path != Path(__file__)]
TESTS = "".join(path.read_text("utf-8") for path in SOURCES)
# Files that we have never seen, of functions of which we have no other recording; what they do is tested by hand.
UNSEEN = {
    "cogvlm2video_positions_scale.safetensors": "tests/modeling/test_modeling_shared_positions.py",
    "var_vqvae_l2_partial4_nostate.safetensors": "tests/modeling/test_modeling_var_vq.py",
    "var_vqvae_l2_partial4_withstate.safetensors": "tests/modeling/test_modeling_var_vq.py",
    "var_vqvae_znorm_shared_nostate.safetensors": "tests/modeling/test_modeling_var_vq.py",
    "videollama2_embed_merge.safetensors": "tests/modeling/test_video_features.py",
    "videollama2_pad_grid.safetensors": "tests/processing/test_canvas_square_pad.py",
    "videollama2_process_video.safetensors": "tests/processing/test_video_processing_fila.py",
    "videollama2_stc_connector_v35.safetensors": "tests/modeling/test_connector_stc.py",
}
RECORDED = sorted({*DIGESTS, *(path.name for path in FOLDER.iterdir())} - {"README.md", "video_var_digests.json"})


def checks(name: str) -> int:
    return sum(fnmatch.fnmatch(name, piece.pattern) for piece in (*PIECES, *FURTHER))


@each("name", [name for name in DIGESTS if name.startswith("var_") and name not in LISTS])
def test_recorded_file_has_one_check(name: str) -> None:
    assert checks(name) == 1


@each("name", RECORDED)
def test_recorded_file_is_read_by_a_test(name: str) -> None:
    assert checks(name) or f'"{name}"' in TESTS or name in UNSEEN
    assert (name not in UNSEEN) or (FOLDER.parents[1] / UNSEEN[name]).is_file()


def test_unseen_files_are_not_here() -> None:
    assert [name for name in UNSEEN if (FOLDER / name).exists()] == []


def test_every_connector_but_the_unseen_one_is_recorded() -> None:
    configs = [
        json.loads(read(path).metadata.get("config", "{}")) for path in FOLDER.glob("videollama2_*.safetensors")
    ]
    recorded = {config["cls"] for config in configs if "cls" in config}
    assert set(videollama2.CLASSES) - recorded == {"STCConnectorV35"}


@torch.no_grad()
def test_check_of_a_whole_tokenizer_sees_a_difference(tmp_path: Path) -> None:
    """On a file of our own numbers, as none is here: every tensor is compared, and one that is changed is found."""
    settings = {"patch_nums": [1, 2], "V": 16, "Cvae": 4}
    ours, x = var.small_tokenizer(settings), torch.rand(2, 3, 32, 32) * 2 - 1
    ids, maps = ours.quantize.encode(ours.features(x))
    out = {"f": ours.features(x), "idx_0": ids[0], "idx_1": ids[1], "fhat": maps[-1], "img": ours.reconstruct(x)[0]}
    kept = {"config": json.dumps(settings), "keys_shapes": json.dumps(var.original_shapes(ours))}
    for changed in ("", *out):
        tensors = {f"out/{name}": (value + (name == changed)).contiguous() for name, value in out.items()}
        save_file({"in/x": x, **tensors}, tmp_path / "own.safetensors", kept)
        errors = {name: relative_error(*pair) for name, *pair in var.tokenizer(tmp_path / "own.safetensors")}
        assert errors.keys() == out.keys()
        assert [name for name, error in errors.items() if error > 1e-5] == ([changed] if changed else [])


def test_difference_that_is_no_number_is_no_agreement() -> None:
    one, nothing = torch.tensor([1.0, 2.0]), torch.tensor([float("nan"), 2.0])
    assert relative_error(nothing, one) == relative_error(one, torch.zeros(2)) == float("inf")
    assert relative_error(torch.zeros(2), torch.zeros(2)) == 0.0
    assert relative_error(torch.tensor([1.5]), torch.tensor([1])) == float("inf")


def test_folder_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FILA_GOLDEN", "nowhere")
    with pytest.raises(NotADirectoryError, match="FILA_GOLDEN must name a folder of recorded numbers; got 'nowhere'"):
        golden_files("var_*")


REAL_KEYS = [
    (values, name)
    for path in golden_files("videollama2_real_state_keys*.json")
    for name, values in read_json(path).items()
    if name.removesuffix("_connector") in CONNECTORS or name.removesuffix("_connector_v35") in CONNECTORS
]


@each(("recorded", "name"), REAL_KEYS)
def test_connector_has_the_keys_of_real_checkpoints(recorded: dict[str, Any], name: str) -> None:
    kind = name.replace("_connector", "")
    with torch.device("meta"):
        ours: Any = CONNECTORS[kind](text_width(recorded["hidden_size"]), input_size=recorded["mm_hidden_size"])
    assert {key: list(value.shape) for key, value in ours.state_dict().items()} == recorded["keys"]


@pytest.mark.parametrize("name", LISTS)
def test_list_of_keys_is_the_recorded_one(name: str) -> None:
    assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest()[:16] == DIGESTS[name]
