# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Training and test data: JSON lines, folders of `datasets`, generated pages.

A sample is a dict with `images`, `messages` and optionally `fields`, one dict per question; see `collator.py`.
"""

import functools
import importlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch.utils.data import Dataset

from fila.processing.image_input import load_images
from fila.processing.image_size import read_size
from fila.processing.image_source import is_address, split_frame
from fila.processing.processing_fila import FilaProcessor

from .collator import count_parts, message_text, open_image_size, read_sample, readable_source


class JsonLines(Dataset[dict[str, Any]]):
    """Dataset with one sample per line; paths are relative to the file, and `a.gif#frame=1` names a frame.

    Args:
        path: The file.

    Raises:
        ValueError: If a line is not a sample; names the first such line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open(encoding="utf-8") as file:
                self.samples = [self._read(line, number) for number, line in enumerate(file, 1) if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} cannot be read as text in UTF-8: {error}.") from error
        if not self.samples:
            raise ValueError(f"{path} must hold one sample per line; it holds none.")

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.samples[index]

    def _read(self, line: str, number: int) -> dict[str, Any]:
        try:
            sample = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"Line {number} of {self.path} is not JSON: {error}.") from error
        if not isinstance(sample, dict) or not isinstance(sample.get("messages"), list):
            raise ValueError(
                f"Line {number} of {self.path} must be an object with `messages` and, where there are any, `images`; "
                f"got {line.strip()[:60]!r}."
            )
        for column in ("image", "images", "video", "videos"):
            self._check_names(sample.get(column), column, number)
        sample = read_sample(sample, f"Line {number} of {self.path}")
        return {**sample, **{column: self._paths(sample[column], column, number) for column in ("images", "videos")}}

    def _check_names(self, names: object, column: str, number: int) -> None:
        wanted = "a list of paths" if column.endswith("s") else "a path"
        listed = names or [] if column.endswith("s") else [names or ""]
        if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
            raise ValueError(f"Line {number} of {self.path} must have {wanted} as `{column}`; got {names!r:.60}.")

    def _paths(self, names: list[str], column: str, number: int) -> list[str]:
        paths = [name if is_address(name) or name[:5] == "data:" else str(self.path.parent / name) for name in names]
        for path, name in zip(paths, names, strict=True):
            there = Path(split_frame(path)[0]).is_file() if column == "images" else Path(path).exists()
            if path != name and not there:
                raise ValueError(
                    f"Line {number} of {self.path} names {path} among its `{column}`, which is no file. Paths are "
                    "relative to the file of the samples."
                )
        return paths


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


MANY_PAGES = 1_000_000  # default count: more pages than a training run reads


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


def open_data(spec: str | os.PathLike[str], processor: FilaProcessor | None = None) -> Any:
    """Open data.

    Args:
        spec: A JSON-lines file, a folder written by `save_to_disk` of `datasets`, or a name of `OPENERS`, a colon and
            that opener's argument, such as `pages:train`.
        processor: Processor for generated data, which depends on its geometry.

    Returns:
        A dataset of samples.

    Raises:
        ValueError: If `spec` is none of these.
    """
    spec = os.fspath(spec)
    name, colon, rest = spec.partition(":")
    if colon and name in OPENERS:
        return OPENERS[name](rest, processor)
    path = Path(spec)
    if path.is_file():
        return JsonLines(path)
    if path.is_dir():
        import datasets

        try:
            data = datasets.load_from_disk(spec)
        except FileNotFoundError as error:
            raise ValueError(f"The folder {spec!r} was not written by `save_to_disk` of `datasets`.") from error
        if isinstance(data, dict):
            raise ValueError(f"{spec!r} holds the splits {sorted(data)}; pass the folder of one of them.")
        return data
    raise ValueError(
        f"Data must be a JSON-lines file, a folder saved with `save_to_disk`, or one of {sorted(OPENERS)} and a "
        f"colon; {spec!r} is none."
    )


def select_sample_columns(dataset: Any) -> Any:
    """Return a dataset without the columns that are no part of a sample; reading those would take time."""
    if hasattr(dataset, "select_columns") and "messages" in (dataset.column_names or ()):
        wanted = ("id", "image", "images", "video", "videos", "messages", "fields")
        return dataset.select_columns([name for name in dataset.column_names if name in wanted])
    return dataset


def sample_sizes(dataset: Any) -> Iterator[list[tuple[int, int]]]:
    """Yield the sizes (height, width) of each sample's images; only headers of files are read."""
    dataset = select_sample_columns(dataset)
    for number in range(len(dataset)):
        yield [image_size(image) for image in read_sample(dataset[number], f"Sample {number}")["images"]]


def image_size(image: object) -> tuple[int, int]:
    """Return height and width of an image in a sample."""
    source = readable_source(image)
    if isinstance(source, str | Path) and Path(split_frame(source)[0]).is_file():
        return tuple(read_size(str(source)))  # type: ignore[return-value]
    return open_image_size(load_images(source))


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
        answers = (_right_answers(sample) if number == ends[-1] else []) or [answer]
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
