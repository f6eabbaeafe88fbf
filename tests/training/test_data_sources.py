# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import io
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pytest
from pyarrow import parquet

from fila.processing.image_input import ImageInputError
from fila.training import data_sources
from fila.training.collator import FilaCollator
from fila.training.data import BadRowsError, open_data
from tests.cases import each
from tests.helpers import random_image, tiny_processor

ROW = {"question": "ä\u2028 a", "answer": "b"}
TEXT = json.dumps(ROW, ensure_ascii=False)


def opened(folder: Path, name: str, content: str | bytes, **options: Any) -> Any:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return open_data(path, **options)


@each("content", [
    f"[{TEXT}]",
    f"[\n{TEXT}\n,\n {TEXT} ]\n",
    f"\ufeff[{TEXT},{TEXT},{TEXT}]",
    f"{TEXT}",
    f"{TEXT}\r\n\r\n{TEXT}\r\n",
    f"\ufeff{TEXT}\n{TEXT}",
    json.dumps(ROW, indent=1),
])  # fmt: skip
def test_json_files_of_every_layout_open(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for chunk in (7, 4096):  # a window that ends within rows, and within characters
        monkeypatch.setattr(data_sources, "_CHUNK", chunk)
        for name in ("a.json", "a.jsonl"):
            data = opened(tmp_path, name, content)
            assert len(data) == content.count('"answer"')
            for sample in (*(data[index] for index in range(len(data))), pickle.loads(pickle.dumps(data))[-1]):
                assert sample["messages"][0]["content"] == [{"type": "text", "text": ROW["question"]}]


@each("content, match", [
    ("", "holds none"),
    ("[]", "holds none"),
    ("[ ]\n\n", "holds none"),
    (f"[{TEXT},]", "a.json row 2: must follow the comma before it"),
    (f"[{TEXT}", "a.json after row 1 is cut off: ',' must follow"),
    (f"[{TEXT},", "a.json row 2: is cut off"),
    (f"[{TEXT},{TEXT[:20]}", "a.json row 2: is cut off"),
    (f"[{TEXT} {TEXT}]", "a.json after row 1 is not JSON: ',' must follow; got '{'"),
    (f"[{TEXT}, {{'a': 1}}, {TEXT}, {TEXT}]", "a.json row 2: is not JSON: Expecting property name"),
    (f"[{TEXT}]\n[]", "a.json must end with the list of its rows; '\\[' follows"),
    ('["a"]', "a.json row 1: must be an object; got 'a'"),
    (f"{TEXT}\n{TEXT[:-5]}", "a.json row 2: is not JSON"),
    (b"[{\"a\": \"\xff\"}]", "a.json cannot be read as text in UTF-8"),
    ("[" * 200_000, "a.json row 1: is not JSON"),
])  # fmt: skip
def test_files_that_are_no_json_are_named(content: str | bytes, match: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=match):
        opened(tmp_path, "a.json", content)


def test_a_row_without_an_end_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_sources, "MAX_ROW", 1000)
    monkeypatch.setattr(data_sources, "_CHUNK", 100)
    for content in ("[" + json.dumps({"a": "b" * 5000}) + "]", json.dumps({"a": "b" * 5000})):
        with pytest.raises(ValueError, match=r"row 1: (is not JSON|must be a line of less than 1000 bytes)"):
            opened(tmp_path, "a.json", content)


def test_rows_that_cannot_be_used_are_counted_and_left_out(tmp_path: Path) -> None:
    good = {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}
    rows = [{"id": f"r{number}", **good} for number in range(396)]
    for number in (3, 5, 7, 300):
        rows[number - 1] = {"id": f"bad{number}", "conversations": [{"from": "human", "value": "<image>a"}]}
    content = json.dumps(rows)
    with pytest.raises(BadRowsError, match=r"4 of 396 rows of .*a\.json cannot be used; --bad-rows skip") as caught:
        opened(tmp_path, "a.json", content)
    told = str(caught.value)
    assert f"tag without image, 4 rows: {tmp_path}/a.json row 3 (id bad3): has 1 <image> and no image | " in told
    assert "row 7 (id bad7)" in told
    assert "row 300" not in told
    with pytest.raises(BadRowsError, match=r"more than the share 0\.01 that may be left out \(--max-bad\)"):
        opened(tmp_path, "a.json", content, bad_rows="skip")  # 1.01 %
    content = json.dumps(rows + rows[-4:])
    data = opened(tmp_path, "a.json", content, bad_rows="skip")  # 1 %
    assert len(data) == 396
    assert [row["id"] for row in data.bad] == ["bad3", "bad5", "bad7", "bad300"]
    assert data.bad[3] == {
        "file": str(tmp_path / "a.json"),
        "row": 300,
        "id": "bad300",
        "kind": "tag without image",
        "reason": "has 1 <image> and no image",
    }
    assert [data[index]["id"] for index in range(4)] == ["r0", "r1", "r3", "r5"]


@each("name, match", [
    ("a.json.gz", r"is compressed, so its rows have no place to jump to; decompress it first"),
    ("a.tar.gz", "is compressed"),
    ("a.csv", r"must be \.json, \.jsonl, \.parquet or \.tar; \.csv is none of these"),
    ("a.tar", "cannot be read as a tar that is not compressed"),
])  # fmt: skip
def test_files_of_other_kinds_are_refused(name: str, match: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=match):
        opened(tmp_path, name, b"abc" * 500)


def test_images_that_are_none_are_refused_before_training(tmp_path: Path) -> None:
    row = {"image": "a.jpg", **ROW}
    for content in (b"", b"<html>", b"\x89PN"):
        (tmp_path / "a.jpg").write_bytes(content)
        with pytest.raises(BadRowsError, match=r"file unreadable, 1 row: .*a\.json row 1: names an image .*a\.jpg"):
            opened(tmp_path, "a.json", json.dumps([row]))


def test_an_image_that_is_cut_off_is_named_with_its_row(tmp_path: Path) -> None:
    random_image(90, 91).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])  # its first bytes are those of an image
    data = opened(tmp_path, "a.json", json.dumps([{"id": "x", "image": "a.png", **ROW}]))
    with pytest.raises(ImageInputError, match=r"Image 0 of sample 0 \(.*a\.json row 1 \(id x\)\)"):
        FilaCollator(tiny_processor())([data[0]])


def test_a_folder_is_opened_by_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True)
        random_image(9, 41).save(folder / split / "a.png")
        (folder / split / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "text": split}))
    with pytest.raises(ValueError, match=r"holds the splits \['test', 'train'\]; name one of them: .*set#test"):
        open_data(folder)
    for spec in (f"{folder}#test", f"{folder}[test]"):
        assert open_data(spec)[0]["answers"] == ["test"]
    with pytest.raises(ValueError, match=r"holds the splits .*; got 'dev'"):
        open_data(f"{folder}#dev")
    (folder / "rows.json").write_text("[]")
    with pytest.raises(ValueError, match=r"is a folder; name one of its files, such as '.*rows\.json'"):
        open_data(folder)
    with pytest.raises(ValueError, match=r"`image_folder` must be a folder; '.*gone' is none"):
        open_data(folder, image_folder=tmp_path / "gone")


def test_tables_with_absent_columns_and_images_without_bytes_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    random_image(9, 41).save(tmp_path / "a.png")
    stored = {"bytes": b"x", "path": "gone"}
    rows = [
        {"image": {"bytes": None, "path": "a.png"}, "images": None, "question": "a", "answer": "b", "query": None},
        {"image": None, "images": [stored, stored], "question": None, "answer": "b", "query": "a"},
        {"image": None, "images": [], "question": "a", "answer": None, "query": None},
    ]
    (tmp_path / "set").mkdir()
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "set" / "a.parquet")
    data = open_data(tmp_path / "set" / "a.parquet", image_folder=tmp_path)
    assert [data[index]["images"] for index in range(3)] == [[f"{tmp_path}/a.png"], [stored, stored], []]
    with pytest.raises(BadRowsError, match=r"file missing, 1 row: .*a\.parquet row 1: names .*set/a\.png"):
        open_data(tmp_path / "set" / "a.parquet")


def write_tar(path: Path, members: dict[str, bytes], **options: Any) -> Path:
    with tarfile.open(path, "w", **options) as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def test_tars_are_read_sample_by_sample(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    random_image(9, 41).save(buffer, "PNG")
    talk = json.dumps({"image": "elsewhere.png", **ROW}).encode()
    long = "d/" + "ä" * 120  # the name is in a header of its own
    members = {f"{long}.png": buffer.getvalue(), f"{long}.json": talk, "b.png": b"", "b.json": talk, "c.txt": b"c"}
    path = write_tar(tmp_path / "a.tar", members, format=tarfile.PAX_FORMAT)
    with pytest.raises(BadRowsError) as caught:
        open_data(path)
    assert [(row["id"], row["kind"]) for row in caught.value.rows] == [
        ("b", "no file named"),
        ("c", "unknown columns"),
    ]
    data = open_data(path, bad_rows="skip", max_bad=0.7)
    assert (data[0]["id"], data[0]["images"]) == (long, [{"bytes": buffer.getvalue(), "path": None}])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(buffer.getvalue()) // 2 + 2048])
    with pytest.raises(ValueError, match="cannot be read as a tar that is not compressed: unexpected end of data"):
        open_data(path)


@each("entry, match", [
    ({"annotation": "gone.jsonl"}, "`annotation` of 'set' must be a file; .*gone.jsonl' is none"),
    ({"annotation": "a.jsonl", "repeat_time": 0}, "`repeat_time` of 'set' must be a positive number; got 0"),
    ({"annotation": "a.jsonl", "repeat_time": 10**9}, "must be a positive number"),
])  # fmt: skip
def test_sets_of_internvl_are_checked(entry: dict[str, Any], match: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(TEXT)
    with pytest.raises(ValueError, match=match):
        opened(tmp_path, "meta.json", json.dumps({"set": entry}, indent=1))


@each("options, match", [
    ({"bad_rows": "x"}, "`bad_rows` must be 'error' or 'skip'; got 'x'"),
    ({"max_bad": 2}, "`max_bad` must be a share from 0 to 1; got 2"),
    ({"root": "a"}, r"`open_data` has no option \['root'\]"),
])  # fmt: skip
def test_options_that_do_not_exist_are_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        open_data("a.json", **options)
