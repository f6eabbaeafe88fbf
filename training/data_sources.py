# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Rows of files, read one at a time: JSON lines and lists, tars of samples, tables of `datasets`.

A source keeps where each row lies and no row, so its memory does not grow with the texts, and workers that are forked
share it. `scan` reads all rows once, in order, and `row` reads one.
"""

import codecs
import json
import os
import tarfile
from array import array
from collections.abc import Iterator, Mapping
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import IO, Any, Protocol

from .data_rows import RowError

MAX_ROW = 64 * 2**20  # characters of a row
_CHUNK = 4 * 2**20
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
Found = dict[str, Any] | RowError


class Source(Protocol):
    """Rows in a fixed order.

    Attributes:
        name: Name of the file in errors.
    """

    name: str

    def scan(self) -> Iterator[tuple[int, Any]]:
        """Yield each row's number from 1 and the row, or the `RowError` of one that cannot be read."""

    def row(self, index: int) -> Any:
        """Return the row at an index from 0, in the order of `scan`."""

    def number(self, index: int) -> int:
        """Return the number of the row at an index."""


def read_json(path: Path) -> Any:
    """Return the first object of a file of JSON objects, or None of a list."""
    with opened(path) as file:
        head = file.read(_CHUNK).removeprefix(codecs.BOM_UTF8).lstrip()
        if not head.startswith(b"{"):
            return None
        file.seek(0)
        text = file.readline(MAX_ROW)
        try:
            return json.loads(text.decode("utf-8-sig"))
        except (ValueError, RecursionError):
            text += file.read(MAX_ROW)  # an object that is wrapped, such as the table of contents of InternVL
    try:
        return json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return {}


def opened(path: Path) -> IO[bytes]:
    """Open a file, with an error that names it."""
    try:
        return path.open("rb")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error


class _JsonRows:
    """Rows between byte offsets of a file."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, str(path)
        self.starts, self.ends = array("q"), array("q")

    def row(self, index: int) -> Any:
        with opened(self.path) as file:
            file.seek(self.starts[index])
            text = file.read(self.ends[index] - self.starts[index])
        return _parsed(text)


class JsonLines(_JsonRows):
    """Rows of a file with one JSON object per line.

    Args:
        path: The file, in UTF-8.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.numbers = array("q")

    def scan(self) -> Iterator[tuple[int, Any]]:
        with opened(self.path) as file:
            for number in count(1):
                start = file.tell()
                line = file.readline(MAX_ROW)
                if not line:
                    return
                if len(line) == MAX_ROW and not line.endswith(b"\n"):
                    raise ValueError(f"{self.name} row {number}: must be a line of less than {MAX_ROW} bytes.")
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if not line.strip():
                    continue
                self.starts.append(start)
                self.ends.append(file.tell())
                self.numbers.append(number)
                try:
                    yield number, _parsed(line)
                except RowError as error:
                    yield number, error

    def number(self, index: int) -> int:
        return self.numbers[index]


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise RowError("not JSON", f"cannot be read as text in UTF-8: {error}") from None
    except (ValueError, RecursionError) as error:
        raise RowError("not JSON", f"is not JSON: {error}") from None


class JsonList(_JsonRows):
    """Rows of a file that is one JSON list, such as LLaVA's; the file is never in memory as a whole.

    Args:
        path: The file, in UTF-8.
    """

    def number(self, index: int) -> int:
        return index + 1

    def scan(self) -> Iterator[tuple[int, Any]]:
        decoder = json.JSONDecoder()
        with opened(self.path) as file:
            text = _Text(file, self.name)
            text.skip("[")
            if text.peek() == "]":
                text.skip("]")
                return
            for number in count(1):
                if text.peek() == "]":
                    raise text.wrong(f"row {number}: must follow the comma before it")
                start, row = text.position, text.value(decoder, number)
                self.starts.append(start)
                self.ends.append(text.position)
                yield number, row
                if text.peek() == "]":
                    break
                text.skip(",", f"after row {number} ")
            text.skip("]")
            if rest := text.peek():
                raise text.wrong(f"must end with the list of its rows; {rest!r} follows")


class _Text:
    """A window on the text of a file, and its place in bytes."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.file, self.name = file, name
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.text, self.at, self.position, self.ended = "", 0, 0, False
        if file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8:
            self.position = file.tell()
        else:
            file.seek(0)

    def wrong(self, told: str) -> ValueError:
        return ValueError(f"{self.name} {told}.")

    def more(self) -> bool:
        """Read on; forget what lies before the place."""
        data = self.file.read(_CHUNK)
        try:
            self.text = self.text[self.at :] + self.decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise self.wrong(f"cannot be read as text in UTF-8: {error}") from error
        self.at, self.ended = 0, not data
        return not self.ended

    def forward(self, end: int) -> None:
        part = self.text[self.at : end]
        self.position += len(part) if part.isascii() else len(part.encode())
        self.at = end

    def peek(self) -> str:
        """Return the next character that is no space; an empty text at the end."""
        while True:
            end = self.at
            while end < len(self.text) and self.text[end] in " \t\r\n":
                end += 1
            self.forward(end)
            if end < len(self.text):
                return self.text[end]
            if not self.more():
                return ""

    def skip(self, wanted: str, where: str = "") -> None:
        found = self.peek()
        if not found:
            raise self.wrong(f"{where}is cut off: {wanted!r} must follow")
        if found != wanted:
            raise self.wrong(f"{where}is not JSON: {wanted!r} must follow; got {found!r}")
        self.forward(self.at + 1)

    def value(self, decoder: json.JSONDecoder, number: int) -> Any:
        """Return the next JSON value."""
        if not self.peek():
            raise self.wrong(f"row {number}: is cut off")
        while True:
            try:
                value, end = decoder.raw_decode(self.text, self.at)
            except RecursionError as error:
                raise self.wrong(f"row {number}: is not JSON: {error}") from error
            except json.JSONDecodeError as error:
                # at the end of the window it may be that the row goes on
                is_open = error.pos >= len(self.text) - 16 or error.msg.startswith("Unterminated")
                if not is_open or len(self.text) - self.at > MAX_ROW:
                    raise self.wrong(f"row {number}: is not JSON: {error.msg}") from error
                if not self.more():
                    raise self.wrong(f"row {number}: is cut off: {error.msg}") from error
                continue
            self.forward(end)
            return value


class Tar:
    """Samples of a WebDataset tar: files `KEY.jpg`, `KEY.json`, `KEY.txt` that stand together.

    Args:
        path: The tar, not compressed.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, str(path)
        self.starts, self.ends = array("q"), array("q")

    def number(self, index: int) -> int:
        return index + 1

    def scan(self) -> Iterator[tuple[int, Any]]:
        number, key = 0, None
        row: dict[str, Any] = {}
        with opened(self.path) as file:
            try:
                tar = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115  (it is closed with the file)
                while (member := tar.next()) is not None:
                    tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header that it has read
                    if not member.isfile():
                        continue
                    if number and _key(member.name) != key:
                        yield number, of_webdataset(row)
                    if not number or _key(member.name) != key:
                        number, key, row = number + 1, _key(member.name), {}
                        self.starts.append(member.offset)
                        self.ends.append(0)
                    self.ends[-1] = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                    _add(row, tar, member, light=True)
            except tarfile.TarError as error:
                raise ValueError(f"{self.name} cannot be read as a tar that is not compressed: {error}.") from error
        if number:
            yield number, of_webdataset(row)

    def row(self, index: int) -> Any:
        with opened(self.path) as file:
            file.seek(self.starts[index])
            part = file.read(self.ends[index] - self.starts[index])
        row: dict[str, Any] = {}
        with tarfile.open(fileobj=BytesIO(part), mode="r:") as tar:
            for member in tar:
                if member.isfile():
                    _add(row, tar, member, light=False)
        if isinstance(row := of_webdataset(row), RowError):
            raise row
        return row


def _add(row: dict[str, Any], tar: tarfile.TarFile, member: tarfile.TarInfo, *, light: bool) -> None:
    """Add a file of a tar to its row; a light one has one byte in the place of an image."""
    row["__key__"] = _key(member.name)
    name = member.name[len(row["__key__"]) + 1 :].lower()
    body = tar.extractfile(member)
    assert body is not None
    is_image = f".{name}" in IMAGE_SUFFIXES
    if not is_image and member.size > MAX_ROW:
        return
    row[name] = b"."[: member.size] if light and is_image else body.read()


def _key(name: str) -> str:
    """Return the key of a file in a tar: its name up to the first dot."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def of_webdataset(row: Mapping[str, Any]) -> Any:
    """Return a row of a WebDataset with columns of our names, or the `RowError` of one that cannot be read."""
    found = {name: value for name, value in row.items() if name.startswith("__") and name != "__url__"}
    images = []
    for name, value in row.items():
        if f".{name}" in IMAGE_SUFFIXES:
            images.append(value if isinstance(value, Mapping) else {"bytes": value, "path": None})
        elif name in ("txt", "text", "caption"):
            found["txt"] = value.decode("utf-8", "replace").strip() if isinstance(value, bytes) else value
        elif name == "json":
            try:
                more = _parsed(value) if isinstance(value, bytes) else value
            except RowError as error:
                return error
            if not isinstance(more, Mapping):
                return RowError("not a sample", f"must hold an object in its .json; got {more!r:.60}")
            # the picture lies in the tar; the path beside its text is that of another machine
            found |= {key: each for key, each in more.items() if not (images and key in ("image", "images"))}
        elif not name.startswith("__"):
            found[name] = value
    if images:
        found.pop("image", None)
        found["images"] = images
    return found


class Table:
    """Rows of a `datasets.Dataset`; its images stay encoded.

    Args:
        data: The dataset.
        name: Name in errors.
    """

    def __init__(self, data: Any, name: str) -> None:
        self.data, self.name = data.with_format("arrow"), name
        # what `datasets` stores as JSON, because its rows are of several types
        self.as_json = [column for column, each in data.features.items() if type(each).__name__ == "Json"]

    def number(self, index: int) -> int:
        return index + 1

    def row(self, index: int) -> Any:
        return self._read(self.data[index].to_pylist()[0])

    def _read(self, row: dict[str, Any]) -> dict[str, Any]:
        for name in self.as_json:
            row[name] = None if row[name] is None else json.loads(row[name])
        return row

    def scan(self) -> Iterator[tuple[int, Any]]:
        number = 0
        for table in self.data.iter(batch_size=512):
            whole = "objects" in table.column_names  # boxes need the sizes of images
            columns = [table[name].to_pylist() if whole else _light(table[name]) for name in table.column_names]
            for values in zip(*columns, strict=True):
                number += 1
                yield number, self._read(dict(zip(table.column_names, values, strict=True)))


def _light(column: Any) -> list[Any]:
    """Return a column of Arrow as a list, with one byte in the place of the bytes of images: they stay on the disk."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_struct(kind) and {"bytes", "path"} <= {kind.field(i).name for i in range(kind.num_fields)}:
        valid = pc.is_valid(column).to_pylist()
        stored = pc.struct_field(column, "bytes")  # of type null in a file whose images all have paths alone
        sizes = stored.to_pylist() if pa.types.is_null(stored.type) else pc.binary_length(stored).to_pylist()
        paths = pc.struct_field(column, "path").to_pylist()
        return [
            {"bytes": b"." if size else None, "path": path} if is_there else None
            for is_there, size, path in zip(valid, sizes, paths, strict=True)
        ]
    if (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and pa.types.is_struct(kind.value_type):
        values = iter(_light(pc.list_flatten(column)))
        lengths = pc.list_value_length(column).to_pylist()
        return [None if length is None else [next(values) for _ in range(length)] for length in lengths]
    return column.to_pylist()  # type: ignore[no-any-return]


def open_rows(path: Path) -> Source:
    """Open a file of rows by its name and its first byte.

    Raises:
        ValueError: If it is a file of another kind.
    """
    suffix = path.suffix.lower()
    if suffix == ".tar":
        return Tar(path)
    if suffix in (".gz", ".tgz", ".zst", ".xz", ".bz2", ".zip"):
        raise ValueError(f"{path} is compressed, so its rows have no place to jump to; decompress it first.")
    if suffix in (".csv", ".tsv", ".arrow", *IMAGE_SUFFIXES):
        raise ValueError(f"{path} must be .json, .jsonl, .parquet or .tar; {suffix} is none of these.")
    with opened(path) as file:
        head = file.read(1024).removeprefix(codecs.BOM_UTF8).lstrip()
    if head.startswith(b"["):
        return JsonList(path)
    if head.startswith(b"{") and _is_wrapped(path):
        return _OneObject(path)
    return JsonLines(path)


def _is_wrapped(path: Path) -> bool:
    """Return whether a file is one JSON object on several lines."""
    with opened(path) as file:
        first = file.readline(MAX_ROW)
    try:
        json.loads(first.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return bool(read_json(path))
    return False


class _OneObject(_JsonRows):
    """A file that is one JSON object, wrapped for reading."""

    def number(self, index: int) -> int:
        return 1

    def scan(self) -> Iterator[tuple[int, Any]]:
        self.starts.append(0)
        self.ends.append(os.path.getsize(self.path))
        yield 1, self.row(0)
