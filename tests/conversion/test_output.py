# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import contextlib
import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fila.conversion.output import parse_size, write_weights, written_atomically, written_file
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


def _checkpoint(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("old")
    return folder


def _names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_written_atomically_keeps_the_old_output_on_failure(tmp_path: Path) -> None:
    out = _checkpoint(tmp_path / "out")
    with pytest.raises(RuntimeError), written_atomically(out, overwrite=True):
        raise RuntimeError
    assert _names(tmp_path) == ["out", "out/config.json"]


def test_written_atomically_replaces_only_if_told(tmp_path: Path) -> None:
    _checkpoint(tmp_path / "out")
    with (
        pytest.raises(FileExistsError, match=r"out exists\. Choose another output"),
        written_atomically(tmp_path / "out", overwrite=False),
    ):
        pass
    with written_atomically(tmp_path / "out", overwrite=True) as folder:
        (folder / "new").write_text("x")
    assert _names(tmp_path) == ["out", "out/new"]


def test_written_atomically_replaces_checkpoints_alone(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear_sirs.txt").write_text("x")
    (tmp_path / "photo.png").write_text("x")
    for output in (tmp_path / "letters", tmp_path / "photo.png"):
        with (
            pytest.raises(FileExistsError, match=r"must be a checkpoint to be replaced; it has no config\.json\."),
            written_atomically(output, overwrite=True),
        ):
            pass
    assert _names(tmp_path) == ["letters", "letters/dear_sirs.txt", "photo.png"]


def test_written_atomically_does_not_replace_what_came_in_the_meantime(tmp_path: Path) -> None:
    with (
        pytest.raises(FileExistsError, match=r"out exists\."),
        written_atomically(tmp_path / "out", overwrite=False),
    ):
        _checkpoint(tmp_path / "out")
    assert _names(tmp_path) == ["out", "out/config.json"]


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An input folder, and other ways to it."""
    folder = _checkpoint(tmp_path / "parts" / "clip")
    (tmp_path / "parts" / "config.json").write_text("x")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "config.json").write_text("x")
    (tmp_path / "elsewhere" / "model.safetensors").write_text("x")
    (folder / "model.safetensors").symlink_to("../../elsewhere/model.safetensors")
    (tmp_path / "link").symlink_to("parts/clip")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.parametrize(
    ("output", "relation"),
    [
        ("parts/clip", "is"),
        ("link", "is"),
        ("elsewhere/../parts/clip", "is"),
        ("parts", "holds"),
        ("parts/clip/out", "lies in"),
        ("link/out", "lies in"),
        ("elsewhere", "holds"),
    ],
    ids=["itself", "link to it", "dots", "its parent", "inside", "inside by a link", "what a link of it leads to"],
)
def test_an_output_folder_is_never_an_input(source: Path, output: str, relation: str, tmp_path: Path) -> None:
    before = _names(tmp_path)
    with (
        pytest.raises(ValueError, match=rf"must not be an input, .* {relation} .*clip\. Choose another"),
        written_atomically(Path(output), overwrite=True, inputs=["owner/name", None, source]),
    ):
        pass
    assert _names(tmp_path) == before


def test_an_output_folder_is_not_in_the_cache_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(_checkpoint(tmp_path / "hub")))
    snapshot = _checkpoint(tmp_path / "hub" / "models--owner--name" / "snapshots" / "1")
    with (
        pytest.raises(ValueError, match=r"snapshots/1 lies in .*hub"),
        written_atomically(snapshot, overwrite=True),
    ):
        pass


@pytest.mark.parametrize("output", ["a.png", "link.png", "hard.png"])
def test_an_output_file_is_never_an_input(output: str, tmp_path: Path) -> None:
    photo = tmp_path / "a.png"
    photo.write_text("photo")
    (tmp_path / "link.png").symlink_to(photo)
    (tmp_path / "hard.png").hardlink_to(photo)
    with (
        pytest.raises(ValueError, match=r"must not be an input, .* is .*a\.png"),
        written_file(tmp_path / output, inputs=[photo]) as partial,
    ):
        partial.write_text("view")
    assert photo.read_text() == "photo"


def test_an_output_file_is_no_file_of_an_input(tmp_path: Path) -> None:
    folder = _checkpoint(tmp_path / "clip")
    with (
        pytest.raises(ValueError, match=r"config\.json lies in .*clip"),
        written_file(folder / "config.json", inputs=[folder]),
    ):
        pass
    with written_file(folder / "view.png", inputs=[folder]) as partial:
        partial.touch()
    assert _names(folder) == ["config.json", "view.png"]


def test_written_file_replaces_a_file_when_the_new_one_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "new" / "a.txt"
    with written_file(out) as partial:
        partial.write_text("one")
    with pytest.raises(OSError, match=r"No space left on device; what was there stays: '.*a\.txt'"):
        _write_to_a_full_disk(out)
    assert out.read_text() == "one"
    with written_file(out) as partial:
        partial.write_text("two")
        assert out.read_text() == "one"
    assert out.read_text() == "two"
    assert _names(tmp_path) == ["new", "new/a.txt"]


def _write_to_a_full_disk(path: Path) -> None:
    with written_file(path) as partial:
        partial.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_written_file_refuses_what_is_no_file(tmp_path: Path) -> None:
    for output in (tmp_path, Path("/dev/null")):
        with pytest.raises(ValueError, match=f"a file or a free name; {output} is neither"), written_file(output):
            pass


def _leftover(output: Path) -> Path:
    """What a process that is killed leaves: the files of one that writes, without its lock."""
    left = output.with_name(f".{output.name}.1-0badcafe.partial")
    with contextlib.suppress(KeyboardInterrupt), written_atomically(output, overwrite=True) as folder:
        (folder / "half").write_text("x")
        shutil.copytree(folder.parent, left)
        raise KeyboardInterrupt
    return left


def test_what_a_killed_process_left_is_removed_by_the_next_run(tmp_path: Path) -> None:
    left = _leftover(tmp_path / "out")
    with written_file(tmp_path / "out.2") as partial:
        partial.touch()
    assert _names(left) == [".lock", "out", "out/half"]
    with written_atomically(tmp_path / "out", overwrite=False):
        pass
    assert _names(tmp_path) == ["out", "out.2"]


def test_what_another_process_writes_is_left_to_it(tmp_path: Path) -> None:
    with written_file(tmp_path / "a.txt") as one:
        one.write_text("one")
        with written_file(tmp_path / "a.txt") as other:
            other.write_text("other")
        assert one.read_text() == "one"
    assert (tmp_path / "a.txt").read_text() == "one"


def test_what_a_killed_process_was_replacing_comes_back(tmp_path: Path) -> None:
    out = _checkpoint(tmp_path / "out")
    out.rename(_leftover(out) / ".replaced")
    with pytest.raises(FileExistsError, match=r"out exists\."), written_atomically(out, overwrite=False):
        pass
    assert _names(tmp_path) == ["out", "out/config.json"]


@pytest.mark.parametrize("size", ["five", "0", 0, "-1", "5 XB", "1.5GB", ""])
def test_parse_size_rejects(size: int | str) -> None:
    with pytest.raises(ValueError, match="`max_shard_size` must be a number of bytes or a size such as '5GB'"):
        parse_size(size)
