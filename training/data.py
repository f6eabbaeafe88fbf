# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Training and test data: files and folders of many kinds, mixtures of them, generated pages.

A sample is a dict with `images`, `messages` and optionally `fields`, one dict per question; see `collator.py`.
"""

import functools
import glob
import importlib
import inspect
import os
import re
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, cast

from torch.utils.data import Dataset
from transformers.utils import logging

from fila.processing.image_error import ImageInputError
from fila.processing.image_size import read_size
from fila.processing.image_source import split_frame
from fila.processing.processing_fila import FilaProcessor

from .collator import count_parts, message_text, read_sample
from .data_rows import RowError, check_options, image_size, named, normalise, row_id
from .data_sources import IMAGE_SUFFIXES, Source, Table, of_webdataset, open_rows, read_json

logger = logging.get_logger(__name__)
MOST_LISTED = 100_000  # rows that cannot be used and are kept in memory
MOST_TIMES = 1000
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8")  # of most images; PIL tells the others
_TIMES = re.compile(r"\*(\d+(?:\.\d+)?)$")
_SPLIT = re.compile(r"(?:#([\w.-]+)|\[([^\[\]]+)\])$")
_HUB = re.compile(r"[\w.-]+(?:/[\w.-]+)?(?::[\w.-]+)?")


class Samples(Dataset[dict[str, Any]]):
    """Dataset of the rows of a source, each turned into a sample when it is asked for.

    All rows are read once, to find those that cannot be used; what is kept is where each of the others lies.

    Args:
        source: The rows.
        normaliser: Function from a row to a sample, see `data_rows.normalise`.
        bad_rows: "error", or "skip" to leave rows out that cannot be used.
        max_bad: Largest share of such rows, for "skip".

    Attributes:
        bad: Rows that were left out: file, row, id, kind and reason.

    A sample has the name of its row in `row`, for errors.

    Raises:
        BadRowsError: If rows cannot be used, or more of them than may be left out.
        ValueError: If there are no rows.
    """

    def __init__(
        self,
        source: Source,
        normaliser: Callable[[Mapping[str, Any]], dict[str, Any]],
        *,
        bad_rows: str = "error",
        max_bad: float = 0.01,
    ) -> None:
        self.source, self.normaliser = source, normaliser
        self.kept, total, found = array("q"), 0, BadRows(source.name)
        for index, (number, row) in enumerate(source.scan()):
            total += 1
            try:
                if isinstance(row, RowError):
                    raise row
                check_readable(normaliser(row))
                self.kept.append(index)
            except RowError as error:
                found.add(number, error, row_id(row) if error.identity is None else error.identity)
        found.check(total, 0 if bad_rows == "error" else max_bad, skips=bad_rows == "skip")
        self.bad = found.rows
        if not self.kept:
            raise ValueError(f"{source.name} must hold one sample per line or row; it holds none.")

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        place = self.kept[index]
        number = self.source.number(place)
        try:
            sample = self.normaliser(self.source.row(place))
        except RowError as error:
            raise ValueError(f"{row_name(self.source.name, number, error.identity)}: {error.reason}.") from error
        return {**sample, "row": row_name(self.source.name, number, sample.get("id"))}


def row_name(file: str, number: int, identity: object) -> str:
    """Return the name of a row in errors."""
    return f"{file} row {number}{named(identity)}"


class BadRowsError(ValueError):
    """Rows of a file cannot be used.

    Attributes:
        rows: One dict per row: file, row, id, kind and reason.
    """

    def __init__(self, message: str, rows: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.rows = rows


class BadRows:
    """Rows of one file that cannot be used, counted by kind."""

    def __init__(self, file: str) -> None:
        self.file, self.rows = file, list[dict[str, Any]]()
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def add(self, number: int, error: RowError, identity: object) -> None:
        """Count a row, with its number and id."""
        self.counts[error.kind] += 1
        if len(examples := self.examples.setdefault(error.kind, [])) < 3:
            examples.append(f"{row_name(self.file, number, identity)}: {error.reason}")
        if len(self.rows) < MOST_LISTED:
            told = {"file": self.file, "row": number, "id": identity, "kind": error.kind, "reason": error.reason}
            self.rows.append(told)

    def check(self, total: int, allowed: float, *, skips: bool) -> None:
        """Reject more rows than are allowed: kinds with counts and three examples each, then the total."""
        if not (count := self.counts.total()) or count <= allowed * total:
            if count:
                logger.warning(
                    f"{self.file}: {count} of {total} rows cannot be used and are left out: {self._kinds()}"
                )
            return
        fix = (
            f"more than the share {allowed:g} that may be left out (--max-bad)"
            if skips
            else ("--bad-rows skip leaves such rows out and lists them in bad_rows.jsonl")
        )
        raise BadRowsError(
            f"{self._kinds()}. {count} of {total} rows of {self.file} cannot be used; {fix}.", self.rows
        )

    def _kinds(self) -> str:
        return "; ".join(
            f"{kind}, {count} row{'s' * (count > 1)}: {' | '.join(self.examples[kind])}"
            for kind, count in self.counts.most_common()
        )


def check_readable(sample: Mapping[str, Any]) -> None:
    """Reject an image file whose first bytes are not those of an image.

    Raises:
        RowError: Names the file.
    """
    for source in sample["images"]:
        named_file = source.get("path") if isinstance(source, Mapping) and not source.get("bytes") else source
        path = split_frame(named_file)[0]
        if not isinstance(path, str | os.PathLike) or not os.path.exists(path):
            continue
        try:
            with open(path, "rb") as file:
                known = file.read(16)
            if not known.startswith(SIGNATURES):
                read_size(str(named_file))
        except (OSError, ImageInputError) as error:
            raise RowError("file unreadable", f"names an image that cannot be read: {error}".rstrip(".")) from None


class Mixture(Dataset[dict[str, Any]]):
    """Dataset of several, one after the other, each in part or several times.

    Args:
        parts: Datasets, each with how often it is passed: 0.4 is the first 40 % of its samples, 3 is three times all.
    """

    def __init__(self, parts: Sequence[tuple[Any, float]]) -> None:
        self.parts = [data for data, _ in parts]
        sizes = [round(len(data) * times, 6) for data, times in parts]
        for (data, times), size in zip(parts, sizes, strict=True):
            if size < 1:
                raise ValueError(
                    f"A mixture must take a sample of each of its parts; {times:g} of {len(data)} is none."
                )
        self.ends = list(accumulate(int(size) for size in sizes))
        self.bad = [row for data in self.parts for row in getattr(data, "bad", ())]

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = index + len(self) if index < 0 else index
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = bisect_right(self.ends, index)
        data = self.parts[part]
        sample: dict[str, Any] = data[(index - (self.ends[part - 1] if part else 0)) % len(data)]
        return sample


@dataclass(frozen=True)
class GeneratedSamples(Dataset[dict[str, Any]]):
    """Dataset of samples that are made on access, as a function of their index.

    Args:
        make: Function from a seed to a sample.
        count: Number of samples.
        first_seed: Seed of the first.
    """

    make: Callable[[int], dict[str, Any]]
    count: int
    first_seed: int = 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return self.make(self.first_seed + index)


def is_generated(dataset: Any) -> bool:
    """Return whether samples of a dataset are made on access, which it would take days to look at."""
    parts = dataset.parts if isinstance(dataset, Mixture) else [dataset]
    return any(isinstance(part, GeneratedSamples) for part in parts)


MANY_PAGES = 1_000_000  # default count: more pages than a training run reads


def has_uncounted_pages(dataset: Any) -> bool:
    """Return whether a dataset has generated pages as many as nobody asked for."""
    return is_generated(dataset) and len(dataset) >= MANY_PAGES


def _open_pages(rest: str, processor: FilaProcessor | None) -> Dataset[dict[str, Any]]:
    """Open `pages:SPLIT` or `pages:SPLIT:COUNT`."""
    split, _, count = rest.partition(":")
    pages = importlib.import_module("fila.training.pages")
    if split not in pages.LAYOUTS or not (count or "1").isdigit():
        known = ", ".join(f"`pages:{name}`" for name in pages.LAYOUTS)
        raise ValueError(f"Generated pages are {known}, then `:COUNT`; got 'pages:{rest}'.")
    return GeneratedSamples(functools.partial(_make_page, split, processor), int(count or MANY_PAGES))


def _make_page(split: str, processor: FilaProcessor | None, seed: int) -> dict[str, Any]:
    """Make a page; a module-level function, so that workers of any start method can pickle it."""
    pages = importlib.import_module("fila.training.pages")
    sample: dict[str, Any] = pages.make_sample(seed, split, cast(FilaProcessor, processor).image_processor)
    return sample


# Openers by the prefix `name:` of a data specification: (rest, processor) -> dataset.
OPENERS: dict[str, Callable[[str, Any], Any]] = {"pages": _open_pages}


def open_data(
    path: str | os.PathLike[str],
    processor: FilaProcessor | None = None,
    *,
    image_folder: str | os.PathLike[str] | None = None,
    bad_rows: str = "error",
    max_bad: float = 0.01,
    streaming: bool = False,
    **options: Any,
) -> Any:
    """Open data of any kind that docs/data.md names.

    Args:
        path: A file (.json, .jsonl, .parquet, .tar), a pattern of files, a folder, a Hub id with `[split]`, or a name
            of `OPENERS`, a colon and that opener's argument, such as `pages:train`. Several are joined with `+`;
            `*0.4` takes the first 40 % of one, `*3` takes it three times.
        processor: Processor for generated data, which depends on its geometry, and whose chat template says whether
            newlines beside images are its own.
        image_folder: Folder that paths of images are relative to; by default that of the file.
        bad_rows: "error", or "skip" to leave rows out that cannot be used; the dataset has them as `bad`.
        max_bad: Largest share of rows that may be left out.
        streaming: Read tables and tars as a stream without a length; nothing is copied to the disk.
        options: Options of `data_rows.normalise`, such as `columns`.

    Returns:
        A dataset of samples.

    Raises:
        BadRowsError: If rows cannot be used.
        ValueError: If `path` is none of these, or an option is unknown.
    """
    spec = os.fspath(path)
    if bad_rows not in ("error", "skip"):
        raise ValueError(f"`bad_rows` must be 'error' or 'skip'; got {bad_rows!r}.")
    if not 0 <= max_bad <= 1:
        raise ValueError(f"`max_bad` must be a share from 0 to 1; got {max_bad}.")
    known = inspect.signature(normalise).parameters
    if unknown := sorted(set(options) - {name for name in known if name not in ("row", "root", "newlines")}):
        raise ValueError(f"`open_data` has no option {unknown}.")
    check_options(**options)
    if processor is not None:
        options["newlines"] = template_newlines(processor)
    folder = None if image_folder is None else os.fspath(image_folder)
    if folder is not None and not os.path.isdir(folder):
        raise ValueError(f"`image_folder` must be a folder; {folder!r} is none.")
    opening = _Opening(processor, folder, bad_rows, max_bad, streaming, options)
    parts = [(opening.open(each), times) for each, times in split_mixture(spec)]
    if len(parts) == 1 and parts[0][1] == 1:
        return parts[0][0]
    if any(not hasattr(data, "__len__") for data, _ in parts):
        raise ValueError(f"A mixture must be of data with a length; {spec!r} has a stream.")
    return Mixture(parts)


def template_newlines(processor: Any) -> tuple[bool, bool]:
    """Return whether a processor's chat template writes a newline of its own before and after an image."""
    written = []
    for parts in (["text", "image"], ["image", "text"]):
        content = [{"type": kind, **({"text": "|x|"} if kind == "text" else {})} for kind in parts]
        text = processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
        before, _, after = text.partition("|x|")
        image = getattr(processor, "image_token", "<image>")
        is_between = image in (after if parts[0] == "text" else before)
        written.append(is_between and (after.startswith("\n") if parts[0] == "text" else before.endswith("\n")))
    return written[0], written[1]


def split_mixture(spec: str) -> list[tuple[str, float]]:
    """Split `a.json+b.json*0.4` into names and how often each is passed; what exists as a file is one name.

    Raises:
        ValueError: If a part is empty, or is passed no times.

    Example:
        >>> split_mixture("a.json+b.json*0.4+c.json*3")
        [('a.json', 1), ('b.json', 0.4), ('c.json', 3)]
    """
    pieces, found, start = spec.split("+"), [], 0
    while start < len(pieces):
        # the longest name that exists, because a path may hold a plus
        ends = range(len(pieces), start, -1)
        end = next((end for end in ends if _exists("+".join(pieces[start:end]))), start + 1)
        found.append(_with_times("+".join(pieces[start:end])))
        start = end
    if not all(name for name, _ in found):
        raise ValueError(f"A mixture must have a name on both sides of each `+`; got {spec!r}.")
    return found


def files_of(spec: str) -> list[str]:
    """Return the names of a mixture's parts, without splits."""
    return [_split_of(name)[0] for name, _ in split_mixture(spec)]


def short_name(spec: str) -> str:
    """Return a mixture's name without folders, for a model card."""
    names = [(name if ":" in name else Path(name).name, times) for name, times in split_mixture(spec)]
    return " + ".join(name if times == 1 else f"{name}*{times:g}" for name, times in names)


def samples_of(dataset: Any) -> Iterator[dict[str, Any]]:
    """Yield the samples of a dataset, with a length or without one."""
    if not hasattr(dataset, "__len__"):
        yield from dataset
        return
    for index in range(len(dataset)):
        yield dataset[index]


def _exists(name: str) -> bool:
    names = (name, _TIMES.sub("", name))
    return any(os.path.exists(each) or os.path.exists(_SPLIT.sub("", each)) for each in names)


def _with_times(name: str) -> tuple[str, float]:
    match = _TIMES.search(name)
    if match is None or os.path.exists(name):
        return name, 1
    times = float(match[1])
    if not 0 < times <= MOST_TIMES:
        raise ValueError(f"Data must be passed more than 0 and at most {MOST_TIMES} times; got {name!r}.")
    return name[: match.start()], int(times) if times.is_integer() else times


@dataclass(frozen=True)
class _Opening:
    """How to open each part of a mixture."""

    processor: FilaProcessor | None
    image_folder: str | None
    bad_rows: str
    max_bad: float
    streaming: bool
    options: Mapping[str, Any]

    def open(self, spec: str) -> Any:
        name, colon, rest = spec.partition(":")
        if colon and name in OPENERS:
            return OPENERS[name](rest, self.processor)
        whole, split = _split_of(spec)
        path = Path(whole)
        if path.is_file():
            return self.file(path, split)
        if glob.has_magic(whole) and (files := sorted(glob.glob(whole, recursive=True))):
            return self.files([Path(file) for file in files], split)
        if path.is_dir():
            return self.folder(path, split)
        if _HUB.fullmatch(whole) and (split or "/" in whole) and not path.suffix:
            return self.hub(whole, split)
        raise ValueError(
            f"Data must be a JSON-lines file or another of the files and folders that docs/data.md names, a Hub id "
            f"with its split such as NAME[train], or one of {sorted(OPENERS)} and a colon; {spec!r} is none."
        )

    def file(self, path: Path, split: str | None) -> Any:
        if path.suffix.lower() == ".parquet":
            return self.files([path], split)
        if split is not None:
            raise ValueError(f"{path} has no splits; got {split!r}.")
        if path.suffix.lower() == ".tar" and self.streaming:
            return self.files([path], split)
        if path.suffix.lower() == ".json" and (sets := _internvl_sets(path)):
            return self.internvl(path, sets)
        return self.rows(open_rows(path), path.parent)

    def rows(self, source: Source, root: str | Path) -> Samples:
        root = self.image_folder if self.image_folder is not None else os.fspath(root)
        normaliser = functools.partial(normalise, root=root, **self.options)
        return Samples(source, normaliser, bad_rows=self.bad_rows, max_bad=self.max_bad)

    def files(self, files: Sequence[Path], split: str | None) -> Any:
        """Open the files that a pattern names, all of one kind."""
        suffixes = sorted({file.suffix.lower() for file in files})
        if len(suffixes) > 1:
            raise ValueError(f"The files of a pattern must be of one kind; got {suffixes}.")
        if suffixes == [".parquet"] or (suffixes == [".tar"] and self.streaming):
            kind = "parquet" if suffixes == [".parquet"] else "webdataset"
            names = [str(file) for file in files]
            told = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
            data = self.load(told, kind, data_files={"train": names}, split=split or "train")
            return self.table(data, told, files[0].parent)
        if len(files) == 1:
            return self.file(files[0], split)
        return Mixture([(self.file(file, split), 1) for file in files])

    def load(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        """Call `load_dataset` of `datasets`."""
        import datasets

        try:
            return datasets.load_dataset(*arguments, streaming=self.streaming, **keywords)
        except (datasets.exceptions.DatasetsError, FileNotFoundError, ConnectionError, ValueError) as error:
            raise ValueError(f"`datasets` cannot open {name}: {error}") from error

    def table(self, data: Any, name: str, root: str | Path) -> Any:
        if not hasattr(data, "__len__"):
            return self.stream(data, name, root)
        return self.rows(Table(data, name), root)

    def stream(self, data: Any, name: str, root: str | Path) -> Any:
        """Return a stream of samples; it stays a stream of `datasets`, which shards itself among workers."""
        root = self.image_folder if self.image_folder is not None else os.fspath(root)
        reader = StreamReader(name, functools.partial(normalise, root=root, **self.options), self.bad_rows == "skip")
        columns = data.column_names
        mapped = data.decode(False).map(reader, with_indices=True, remove_columns=columns)
        return mapped.filter(_is_usable) if self.bad_rows == "skip" else mapped

    def folder(self, path: Path, split: str | None) -> Any:
        """Open a folder of `save_to_disk`, of Parquet files or of images."""
        import datasets

        if any((path / name).is_file() for name in ("state.json", "dataset_dict.json")):
            data = datasets.load_from_disk(str(path))
            return self.table(_one_split(data, str(path), split), str(path), path)
        if found := sorted(each.name for each in path.glob("*.json*") if each.name != "metadata.jsonl"):
            raise ValueError(f"{str(path)!r} is a folder; name one of its files, such as {str(path / found[0])!r}.")
        suffixes = {each.suffix.lower() for each in path.rglob("*")}
        kind = "parquet" if ".parquet" in suffixes else "imagefolder" if suffixes & {*IMAGE_SUFFIXES} else None
        if kind is None:
            raise ValueError(
                f"The folder {str(path)!r} was not written by `save_to_disk` of `datasets`, and has neither Parquet "
                "files nor images."
            )
        arguments = (str(path),) if kind == "parquet" else (kind,)
        data = self.load(str(path), *arguments, **({} if kind == "parquet" else {"data_dir": str(path)}))
        return self.table(_one_split(data, str(path), split), str(path), path)

    def hub(self, spec: str, split: str | None) -> Any:
        """Open a data set of the Hub: `name`, `name:config`, `name[split]`."""
        name, _, config = spec.partition(":")
        data = self.load(spec, name, *([config] if config else []), **({"split": split} if split else {}))
        return self.table(_one_split(data, spec, None), f"{spec}[{split}]" if split else spec, "")

    def internvl(self, path: Path, sets: Mapping[str, Mapping[str, Any]]) -> Any:
        """Open the sets that a table of contents of InternVL names, each as often as `repeat_time` says."""
        parts = []
        for name, entry in sets.items():
            times = entry.get("repeat_time", 1)
            if not isinstance(times, int | float) or isinstance(times, bool) or not 0 < times <= MOST_TIMES:
                raise ValueError(f"{path}: `repeat_time` of {name!r} must be a positive number; got {times!r}.")
            rows, root = (_beside(path, str(entry.get(key) or "")) for key in ("annotation", "root"))
            if not rows.is_file():
                raise ValueError(f"{path}: `annotation` of {name!r} must be a file; {str(rows)!r} is none.")
            parts.append((self.rows(open_rows(rows), root), float(times)))
        return Mixture(parts)


@dataclass
class StreamReader:
    """Function from a row of a stream and its index to a sample.

    Args:
        name: Name of the stream in errors.
        normaliser: Function from a row to a sample.
        skips: Whether a row that cannot be used becomes a sample without messages, which is then left out.
    """

    name: str
    normaliser: Callable[[Mapping[str, Any]], dict[str, Any]]
    skips: bool

    def __call__(self, row: Mapping[str, Any], index: int) -> dict[str, Any]:
        found = of_webdataset(row) if "__key__" in row else row
        try:
            if isinstance(found, RowError):
                raise found
            sample = self.normaliser(found)
            return {**sample, "row": row_name(self.name, index + 1, sample.get("id"))}
        except RowError as error:
            told = f"{row_name(self.name, index + 1, error.identity)}: {error.reason}"
            if not self.skips:
                raise BadRowsError(f"{told}.") from error
            logger.warning(f"{told}; it is left out.")
            return {"messages": [], "images": [], "videos": []}


def _is_usable(sample: Mapping[str, Any]) -> bool:
    return bool(sample["messages"] or sample.get("fields"))


def _split_of(spec: str) -> tuple[str, str | None]:
    """Split `NAME#split` or `NAME[split]`; a pattern of files such as `[ab].json` has no split."""
    match = _SPLIT.search(spec)
    if match is None or os.path.exists(spec) or (glob.has_magic(spec) and glob.glob(spec)):
        return spec, None
    return spec[: match.start()], match[1] or match[2]


def _one_split(data: Any, name: str, split: str | None) -> Any:
    if not isinstance(data, dict):
        if split is not None:
            raise ValueError(f"{name!r} has no splits; got {split!r}.")
        return data
    if split is None and len(data) > 1:
        raise ValueError(f"{name!r} holds the splits {sorted(data)}; name one of them: {name}#{sorted(data)[0]}.")
    split = next(iter(data)) if split is None else split
    if split not in data:
        raise ValueError(f"{name!r} holds the splits {sorted(data)}; got {split!r}.")
    return data[split]


def _internvl_sets(path: Path) -> Mapping[str, Mapping[str, Any]] | None:
    """Return the sets of a table of contents of InternVL: an object whose values name an `annotation`."""
    found = read_json(path)
    if not isinstance(found, dict) or not found:
        return None
    return found if all(isinstance(each, dict) and "annotation" in each for each in found.values()) else None


def _beside(file: Path, name: str) -> Path:
    """Return a path relative to a file; one that exists only in the working folder is taken from there."""
    path = file.parent / name
    return path if path.exists() or not Path(name).exists() else Path(name)


def select_sample_columns(dataset: Any) -> Any:
    """Return a dataset without the columns that are no part of a sample; reading those would take time."""
    if hasattr(dataset, "select_columns") and "messages" in (dataset.column_names or ()):
        wanted = ("id", "image", "images", "video", "videos", "messages", "fields")
        return dataset.select_columns([name for name in dataset.column_names if name in wanted])
    return dataset


def sample_sizes(
    dataset: Any, page_size: Callable[[float, float], Any] | None = None
) -> Iterator[list[tuple[int, int]]]:
    """Yield the sizes (height, width) of each sample's images; only headers of files are read.

    Args:
        dataset: The samples.
        page_size: The image processor's `page_size`, for pages of PDFs.
    """
    dataset = select_sample_columns(dataset)
    for number in range(len(dataset)):
        sample = read_sample(dataset[number], f"Sample {number}")
        yield [image_size(image, page_size) for image in sample["images"]]


def questions(samples: Iterable[Mapping[str, Any]], *, unanswered: bool = False) -> Iterator["Question"]:
    """Yield one `Question` per field of each sample, or per assistant message if a sample has no fields.

    The prompt of a field holds the sample's images and videos and the field's question. The prompt of an assistant
    message holds all messages before it. `answers` of a field, or of a sample for its last assistant message, are all
    right answers.

    Args:
        samples: Samples, as `open_data` gives them.
        unanswered: Whether a sample whose last message is the user's asks that message too, without a right answer,
            and fields may lack an answer.

    Raises:
        ValueError: If a sample cannot be used, or a field lacks a question or an answer as text.
    """
    for index, each in enumerate(samples):
        sample = read_sample(each, f"Sample {index}")
        yield from questions_of(sample, index, unanswered=unanswered)


def questions_of(sample: Mapping[str, Any], index: int, *, unanswered: bool = False) -> Iterator["Question"]:
    """Yield the questions of a sample that `read_sample` returned; see `questions`."""
    images, videos = sample["images"], sample["videos"]
    for entry in sample.get("fields") or []:
        answers = _right_answers(entry) or ([""] if unanswered else [])
        if not isinstance(entry.get("question"), str) or not answers:
            raise ValueError(
                f"A field of sample {index} must have `question` and `answer`, both text, or `answers`, a list of "
                f"texts; got {entry!r:.80}."
            )
        content = [{"type": "image"} for _ in images] + [{"type": "video"} for _ in videos]
        content.append({"type": "text", "text": entry["question"]})
        yield Question(images, [{"role": "user", "content": content}], answers[0], entry, videos, index, answers)
    if sample.get("fields"):
        return
    messages = sample["messages"]
    ends = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
    if unanswered and messages and messages[-1]["role"] == "user":
        ends.append(len(messages))
    for number in ends:
        before = messages[:number]
        num_images, num_videos = (count_parts(before, kind) for kind in ("image", "video"))
        answer = message_text(messages[number]) if number < len(messages) else ""
        answers = _right_answers(sample) if number == ends[-1] else []
        answers = answers if any(answers) else [answer]  # an empty column beside the messages says nothing
        yield Question(images[:num_images], before, answer, None, videos[:num_videos], index, answers)


def _right_answers(entry: Mapping[str, Any]) -> list[str]:
    """Return the texts of `answers`, or of `answer`; nothing where there is another type."""
    answers = entry.get("answers")
    answers = [entry.get("answer")] if answers is None else list(answers)
    return answers if all(isinstance(answer, str) for answer in answers) else []


@dataclass(frozen=True)
class Question:
    """One question with its right answer.

    Attributes:
        images: Images, in the form that the sample has them.
        messages: Messages up to the question, with a part for each image and video.
        answer: The right answer, or the first of several.
        field: Other facts about the question, for buckets.
        videos: As a sample holds them.
        sample: Index of the sample in the data.
        answers: All right answers; empty means `answer` alone.
    """

    images: Sequence[Any]
    messages: Sequence[Mapping[str, Any]]
    answer: str
    field: Mapping[str, Any] | None = None
    videos: Sequence[Any] = ()
    sample: int | None = None
    answers: Sequence[str] = ()

    @property
    def references(self) -> Sequence[str]:
        """Return all right answers."""
        return self.answers or [self.answer]

    @property
    def text(self) -> str:
        """Return the text of the last message."""
        return message_text(self.messages[-1]) if self.messages else ""
