# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fila.conversion import pretrained_part as part
from fila.conversion.pretrained_part import open_part, resolve_folder
from tests.conversion.parts import write_part

STATE = {"a": torch.zeros(2), "b": torch.zeros(3)}


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """A folder `model` with two shards and their index."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "demo"}')
    save_file({"a": STATE["a"]}, folder / "one.safetensors")
    save_file({"b": STATE["b"]}, folder / "two.safetensors")
    _index(folder, {"a": "one.safetensors", "b": "two.safetensors"})
    return folder


def _index(folder: Path, weight_map: dict[str, str]) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_open_part_reads_one_file(tmp_path: Path) -> None:
    write_part(tmp_path / "x", {"model_type": "demo"}, STATE)
    (tmp_path / "x" / "README.md").write_text("---\nlicense: mit\n---\nText.")
    opened = open_part(tmp_path / "x")
    assert opened.shapes == {"a": (2,), "b": (3,)}
    assert (opened.name, opened.config, opened.card["license"]) == ("x", {"model_type": "demo"}, "mit")


def test_open_part_reads_shards(sharded: Path) -> None:
    assert open_part(sharded).shapes == {"a": (2,), "b": (3,)}


def test_open_part_without_weights_reads_the_config_alone(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert open_part(tmp_path, weights=False).tensors == {}


@pytest.mark.parametrize(
    "shard", ["../one.safetensors", "/etc/one.safetensors", "sub/one.safetensors", "c:\\one.safetensors", ".."]
)
def test_open_part_rejects_path_traversal(sharded: Path, shard: str) -> None:
    _index(sharded, {"a": shard, "b": "two.safetensors"})
    with pytest.raises(ValueError, match="a shard must be a plain"):
        open_part(sharded)


def test_open_part_rejects_a_link_that_leads_out(sharded: Path) -> None:
    (sharded / "one.safetensors").rename(sharded.parent / "outside.safetensors")
    (sharded / "one.safetensors").symlink_to(sharded.parent / "outside.safetensors")
    with pytest.raises(ValueError, match=r"'one\.safetensors' is a link that leads out of the part's folder"):
        open_part(sharded)


def test_open_part_follows_the_links_of_a_hub_snapshot(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "snapshots" / "0a1b", tmp_path / "blobs"
    blobs.mkdir(parents=True)
    write_part(snapshot, {"model_type": "demo"}, STATE)
    (snapshot / "model.safetensors").rename(blobs / "77")
    (snapshot / "model.safetensors").symlink_to("../../blobs/77")
    assert set(open_part(snapshot).tensors) == {"a", "b"}


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"a": "one.safetensors", "b": "three.safetensors"}, r"names 'three\.safetensors', which is missing"),
        ({"a": "one.safetensors"}, None),
        ({"a": "one.safetensors", "b": "two.safetensors", "c": "two.safetensors"}, r"lists 'c' in two\.safetensors"),
        ({"a": "two.safetensors", "b": "two.safetensors"}, r"lists 'a' in two\.safetensors, which does not hold it"),
        ({"a": "two.safetensors", "b": "one.safetensors"}, r"says that 'a' lies in two\.safetensors; it lies in one"),
        ({"c": "one.safetensors", "b": "two.safetensors"}, r"one\.safetensors holds 'a', which .* does not list"),
    ],
)
def test_open_part_rejects_an_index_that_contradicts_its_shards(
    sharded: Path, weight_map: dict[str, str], message: str | None
) -> None:
    _index(sharded, weight_map)
    if message is None:  # a shard that nothing names is not read
        assert set(open_part(sharded).tensors) == {"a"}
        return
    with pytest.raises(ValueError, match=message):
        open_part(sharded)


def test_open_part_rejects_a_key_in_two_shards(sharded: Path) -> None:
    save_file(STATE, sharded / "two.safetensors")
    with pytest.raises(ValueError, match=r"'a' lies in two shards, one\.safetensors and two\.safetensors"):
        open_part(sharded)


def test_open_part_rejects_pickles_and_says_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"only 'pytorch_model\.bin'.*call `save_pretrained\(folder\)`"):
        open_part(tmp_path)


def test_open_part_rejects_a_folder_without_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"has no safetensors weights\."):
        open_part(tmp_path)


def test_open_part_rejects_several_files_without_index(sharded: Path) -> None:
    (sharded / "model.safetensors.index.json").unlink()
    with pytest.raises(ValueError, match="has 2 safetensors files and no"):
        open_part(sharded)


def test_open_part_rejects_a_folder_without_config(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no config\.json"):
        open_part(tmp_path)


def test_open_part_rejects_a_quantized_part(tmp_path: Path) -> None:
    write_part(tmp_path, {"quantization_config": {}}, STATE)
    with pytest.raises(ValueError, match="is quantized"):
        open_part(tmp_path)


def test_open_part_rejects_a_config_that_is_no_object(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"config\.json must hold a JSON object; it holds a list"):
        open_part(tmp_path)


@pytest.mark.parametrize("source", ["no/such/folder", "./missing", "/missing", "missing", "~/missing", "missing@main"])
def test_resolve_folder_rejects_what_is_neither_folder_nor_hub_id(source: str) -> None:
    with pytest.raises(ValueError, match="is neither a folder nor a Hub id"):
        resolve_folder(source)


def test_resolve_folder_asks_the_hub_for_safe_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def download(repo_id: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.update(repo_id=repo_id, revision=revision, patterns=allow_patterns)
        return str(tmp_path / "0123456789abcdef")

    monkeypatch.setattr(part, "snapshot_download", download)
    (tmp_path / "0123456789abcdef").mkdir()
    assert resolve_folder("owner/name@main") == ("owner/name@0123456789ab", tmp_path / "0123456789abcdef")
    assert (asked["repo_id"], asked["revision"]) == ("owner/name", "main")
    assert not [pattern for pattern in asked["patterns"] if "bin" in pattern or pattern == "*"]


def test_resolve_folder_says_when_the_hub_is_out_of_reach() -> None:
    with pytest.raises(ValueError, match="'owner/name' is no folder here, and the Hub did not give it"):
        resolve_folder("owner/name")


@pytest.mark.parametrize(
    ("layers", "message"),
    [(10**9, r"x.num_hidden_layers` is 1000000000: more than any"), (3, r"is 3: the part has 2 tensors")],
)
def test_open_part_rejects_more_layers_than_it_has_tensors(layers: int, message: str, tmp_path: Path) -> None:
    write_part(tmp_path / "x", {"model_type": "demo", "num_hidden_layers": layers}, STATE)
    with pytest.raises(ValueError, match=message):
        open_part(tmp_path / "x")
