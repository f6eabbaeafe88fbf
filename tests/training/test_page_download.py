# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import hashlib
import subprocess
from pathlib import Path

import pytest

from fila.training import page_download


def _pip_that_brings(content: bytes, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **kwargs: object) -> subprocess.CompletedProcess[str]:
        folder = Path(command[command.index("--dest") + 1])
        (folder / name).write_bytes(content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(page_download.subprocess, "run", run)


def test_download_wheel_returns_the_pinned_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pip_that_brings(b"wheel", "a_b-1.2-py3-none-any.whl", monkeypatch)
    sha256 = hashlib.sha256(b"wheel").hexdigest()
    assert page_download.download_wheel("a-b", "1.2", sha256, tmp_path) == tmp_path / "a_b-1.2-py3-none-any.whl"


def test_download_wheel_rejects_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pip_that_brings(b"other", "a_b-1.2-py3-none-any.whl", monkeypatch)
    with pytest.raises(RuntimeError, match=r"a_b-1\.2-py3-none-any\.whl has sha256 .* expected 0000.*was checked"):
        page_download.download_wheel("a-b", "1.2", "0" * 64, tmp_path)


def test_download_wheel_says_when_nothing_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pip_that_brings(b"wheel", "something_else-1.2-py3-none-any.whl", monkeypatch)
    with pytest.raises(RuntimeError, match=r"pip could not download a-b==1\.2: no wheel arrived"):
        page_download.download_wheel("a-b", "1.2", "0" * 64, tmp_path)
