# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fila.conversion.output import parse_size, write_weights, written_atomically
from fila.conversion.streams import NewTensor

STATE = {"a": torch.randn(7, 5), "b": torch.randn(3), "c": torch.randn(2, 2)}


def _write(folder: Path, shard_bytes: int) -> list[str]:
    tensors = {key: NewTensor(tensor) for key, tensor in STATE.items()}
    write_weights(folder, tensors, dtype=torch.float32, shard_bytes=shard_bytes, progress=False)
    return sorted(path.name for path in folder.iterdir())


def test_write_weights_in_one_file(tmp_path: Path) -> None:
    assert _write(tmp_path, 168) == ["model.safetensors"]


def test_write_weights_in_shards(tmp_path: Path) -> None:
    """140, 12 and 16 bytes: the first tensor fills a shard, the other two share one."""
    names = _write(tmp_path, 30)
    assert names == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ]
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"] == {"total_size": 168, "total_parameters": 42}
    loaded = load_file(tmp_path / names[0]) | load_file(tmp_path / names[1])
    assert all(torch.equal(loaded[key], tensor) for key, tensor in STATE.items())
    assert index["weight_map"] == {"a": names[0], "b": names[1], "c": names[1]}


def test_written_atomically_leaves_nothing_behind_on_failure(tmp_path: Path) -> None:
    def interrupted() -> None:
        with written_atomically(tmp_path / "out", overwrite=False) as folder:
            (folder / "half").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_written_atomically_keeps_the_old_output_on_failure(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("x")
    with pytest.raises(RuntimeError), written_atomically(tmp_path / "out", overwrite=True):
        raise RuntimeError
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "old"]


def test_written_atomically_replaces_only_if_told(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("x")
    with (
        pytest.raises(FileExistsError, match=r"out exists\. Choose another output"),
        written_atomically(tmp_path / "out", overwrite=False),
    ):
        pass
    with written_atomically(tmp_path / "out", overwrite=True) as folder:
        (folder / "new").write_text("x")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "new"]


def test_written_atomically_writes_where_a_link_points(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    for overwrite, name in ((False, "old"), (True, "new")):
        with written_atomically(tmp_path / "out", overwrite=overwrite) as folder:
            (folder / name).write_text("x")
        assert (tmp_path / "out").is_symlink()
        assert [path.name for path in (tmp_path / "real").iterdir()] == [name]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "real"]


def test_written_atomically_refuses_a_mount_point_before_any_work() -> None:
    with pytest.raises(ValueError, match="is a mount point"), written_atomically(Path("/proc"), overwrite=True):
        raise AssertionError


def test_written_atomically_makes_parents_and_takes_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "a" / "out").mkdir(parents=True)
    for output in (tmp_path / "a" / "out", tmp_path / "b" / "out"):
        with written_atomically(output, overwrite=False) as folder:
            (folder / "new").write_text("x")
        assert (output / "new").is_file()


@pytest.mark.parametrize("size", ["five", "0", 0, "-1", "5 XB", "1.5GB", ""])
def test_parse_size_rejects(size: int | str) -> None:
    with pytest.raises(ValueError, match="`max_shard_size` must be a number of bytes or a size such as '5GB'"):
        parse_size(size)
