# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Bytes out of paths, text and open files; what is refused is in the torture set."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fila.processing import image_source
from fila.processing.image_error import UnusableImage
from fila.processing.image_source import is_encoded, read_source, shown

DATA = b"\x00\x01\x02 is not an image of any kind"


URL_SAFE = b"\xfb\xff\xfe" * 9 + b"\x00"  # `-` and `_` in the alphabet of addresses, and two signs of padding


class _Reader:
    """Gives five bytes at most, as sockets and archives give less than they are asked for."""

    def __init__(self) -> None:
        self.rest = DATA

    def read(self, size: int = -1) -> bytes:
        piece, self.rest = self.rest[:5], self.rest[5:]
        return piece


@dataclass
class _Named:
    """A path of another library."""

    path: str

    def __fspath__(self) -> str:
        return self.path


@pytest.mark.parametrize(
    "source",
    [DATA, bytearray(DATA), memoryview(DATA), io.BytesIO(DATA), _Reader(), base64.b64encode(DATA).decode()],
    ids=lambda source: type(source).__name__,
)
def test_read_source_gives_the_bytes(source: Any) -> None:
    assert is_encoded(source)
    assert read_source(source) == (DATA, None)


@pytest.mark.parametrize("padding", ["", "=="])
@pytest.mark.parametrize("head", ["", "data:image/png;base64,", "DATA:image/png;BASE64,"])
def test_base64_may_be_that_of_addresses(padding: str, head: str) -> None:
    text = base64.urlsafe_b64encode(URL_SAFE).decode()
    assert read_source(head + text.rstrip("=") + padding) == (URL_SAFE, None)


def test_any_path_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(DATA)
    named = _Named(f"{tmp_path}/a.gif")
    assert is_encoded(named)
    assert shown(named) == f"{tmp_path}/a.gif"
    assert read_source(named) == (DATA, None)
    assert read_source(_Named(f"{tmp_path}/a.gif#frame=3")) == (DATA, 3)


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*args: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.png").write_bytes(DATA)
    monkeypatch.setattr(image_source, "open", denied, raising=False)
    with pytest.raises(UnusableImage, match=r"'.*a\.png' cannot be read \(Permission denied\)"):
        read_source(tmp_path / "a.png")


def test_open_files_are_read_from_their_start_and_stay_open(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    with open(tmp_path / "a", "rb") as file:
        file.read(5)
        assert read_source(file) == (DATA, None)
        assert read_source(file) == (DATA, None)
        assert not file.closed


@pytest.mark.parametrize("kind", [str, Path])
def test_a_frame_is_split_off(kind: type, tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(DATA)
    assert read_source(kind(f"{tmp_path}/a.gif")) == (DATA, None)
    assert read_source(kind(f"{tmp_path}/a.gif#frame=12")) == (DATA, 12)


def test_a_file_whose_name_looks_like_a_frame_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "a#frame=3").write_bytes(DATA)
    assert read_source(f"{tmp_path}/a#frame=3") == (DATA, None)


@pytest.mark.parametrize("name", ["images/page1", "page"])
def test_a_missing_file_is_no_base64(name: str) -> None:
    with pytest.raises(UnusableImage, match=rf"'{name}' does not exist"):
        read_source(name)


def test_the_smallest_images_may_be_base64() -> None:
    pixel = b"P5 1 1 255\n\x07"
    assert read_source(base64.b64encode(pixel).decode()) == (pixel, None)


def test_large_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_source, "MAX_FILE_BYTES", len(DATA) - 1)
    (tmp_path / "a").write_bytes(DATA)
    for source in (tmp_path / "a", DATA, io.BytesIO(DATA)):
        with pytest.raises(UnusableImage, match=rf"has more than {len(DATA) - 1} bytes"):
            read_source(source)


def test_large_base64_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    text = base64.b64encode(bytes(99)).decode()
    monkeypatch.setattr(image_source, "MAX_FILE_BYTES", 60)
    monkeypatch.setattr(base64, "b64decode", lambda *args, **kwargs: pytest.fail("it was decoded"))
    for source in (text, f"data:image/png;base64,{text}"):
        with pytest.raises(UnusableImage, match=r"has more than 60 bytes"):
            read_source(source)


def test_shown_names_files_alone(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    assert shown(f"{tmp_path}/a") == f"{tmp_path}/a"
    assert shown(tmp_path / "none") == f"{tmp_path}/none"
    assert shown(DATA) is None
    assert shown("aGVsbG8=") is None
    assert not is_encoded(3)
