# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Answers to all questions of a data set, as JSON lines that an interrupted run goes on with.

A line is `{"id", "question", "answer", "tokens"}`; `error` takes the place of `answer` and `tokens` where a question
could not be asked. Rows are read in windows; in a window the questions are sorted by resolution, so that the images of
a batch need little padding. The order depends on the data alone: a resumed run writes the file that an undisturbed one
writes.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from .answer_files import JSON_LINES, AnswerForm, Line, open_answers
from .answering import Answerer
from .collator import read_sample
from .data import Question, questions_of
from .data_rows import image_size
from .sampler import resolution_key

WINDOW = 64  # batches that are sorted together


@dataclass(frozen=True)
class Asked:
    """A question of a row, or the error that keeps it from being asked; `about` is what the row says of itself."""

    id: str
    question: Question | None
    error: str | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def line(self, **found: Any) -> Line:
        """Return the line of this question with what was found."""
        question = self.question.text if self.question else None
        return {"id": self.id, **self.about, "question": question, **found}


@dataclass(frozen=True)
class Counts:
    """What a run did: `answered` and `failed` questions, and `found` ones that the file held before."""

    answered: int
    failed: int
    found: int


def read_shard(text: str) -> tuple[int, int]:
    """Read `i/n`: the shard of rows i, i + n, i + 2n, ...

    Example:
        >>> read_shard("0/4")
        (0, 4)
    """
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise ValueError(
            "A shard is i/n, counted from 0: 0/2 and 1/2 are the two halves, as `$RANK/$WORLD_SIZE` has it; got "
            f"{text!r}."
        )
    return int(index), int(count)


class BulkAsker:
    """Asker of all questions of rows of a data set.

    Args:
        answer: Model and processor.
        dataset: Dataset of samples, see `open_data`.
        name: Name of the data in the ids of rows that have no `id`.
        batch_size: Questions per call of `generate`.
        in_order: Whether to ask in the order of the rows; else questions about images of like size come together.
        min_confidence: Confidence below which an answer is marked as not sure.
    """

    def __init__(
        self,
        answer: Answerer,
        dataset: Any,
        name: str,
        *,
        batch_size: int = 8,
        in_order: bool = False,
        min_confidence: float = 0.0,
    ) -> None:
        self.answer, self.dataset, self.name, self.batch_size = answer, dataset, name, batch_size
        self.in_order, self.min_confidence = in_order, min_confidence

    def lines(self, rows: Iterable[int], done: Iterable[str] = ()) -> Iterator[list[Line]]:
        """Yield the lines of each batch, without those whose id is in `done`.

        A batch with some questions in `done` is asked whole again, so that its answers are those of one run.

        Args:
            rows: Numbers of rows.
            done: Ids, or a mapping from ids to the questions that were asked.

        Raises:
            ValueError: If two questions have one id, or one was another question before.
        """
        before = done if isinstance(done, Mapping) else {}
        done, seen = set(done), set()
        asked = (one for row in rows for one in self._of_row(row))
        while window := list(islice(asked, self.batch_size * (1 if self.in_order else WINDOW))):
            for one in window:
                if one.id in seen:
                    raise ValueError(
                        f"Two questions of {self.name} have the id {one.id!r}, as rows of LLaVA about one picture "
                        "have. `--columns id=` leaves ids out: each row is then named by its place. Or give each its "
                        "own."
                    )
                seen.add(one.id)
                if one.question and before.get(one.id) not in (None, one.question.text):
                    raise ValueError(
                        f"The output must hold answers to the same questions; it has one to {before[one.id]!r:.80} "
                        f"as {one.id!r}, and {one.question.text!r:.80} is asked now. Name another output."
                    )
            if not self.in_order:
                window.sort(key=self._key)
            for start in range(0, len(window), self.batch_size):
                batch = window[start : start + self.batch_size]
                if not all(one.id in done for one in batch):
                    yield [line for line in self._lines(batch) if line["id"] not in done]

    def _of_row(self, row: int) -> list[Asked]:
        place = f"{self.name}:{row}"
        about: Mapping[str, Any] = {}
        try:
            sample = self.dataset[row]
            about = sample.get("about") or {}
            given = sample.get("id")
            if given is not None:
                place = str(given)
            found = list(questions_of(read_sample(sample, f"Row {row} of {self.name}"), row, unanswered=True))
            if not found:
                raise ValueError(f"Row {row} of {self.name} asks nothing: it has no messages of a user and no fields.")
        except Exception as error:  # every library that opens images has its own
            return [Asked(place, None, _told(error), about)]
        if given is not None and len(found) == 1:
            return [Asked(place, found[0], None, about)]
        return [Asked(f"{place}:{number}", question, None, about) for number, question in enumerate(found)]

    def _key(self, one: Asked) -> tuple[Any, ...]:
        """Return the resolution of the question's images; what cannot be read comes first, and fails when asked."""
        if one.question is None:
            return ()
        try:
            page_size = self.answer.processor.image_processor.page_size
            sizes = [image_size(image, page_size) for image in one.question.images]
        except Exception:
            return ()
        return resolution_key(sizes, self.answer.processor.image_processor)

    def _lines(self, batch: Sequence[Asked]) -> list[Line]:
        """Ask a batch; if that fails, ask one by one, so that only what is at fault fails."""
        askable = [one for one in batch if one.question is not None]
        found = {one.id: one.line(error=one.error) for one in batch if one.question is None}
        try:
            found |= self._answers(askable) if askable else {}
        except Exception as error:
            if len(askable) == 1:
                found[askable[0].id] = askable[0].line(error=_told(error))
            else:
                for one in askable:
                    found |= {line["id"]: line for line in self._lines([one])}
        return [found[one.id] for one in batch]

    def _answers(self, asked: Sequence[Asked]) -> dict[str, Line]:
        generated = self.answer([one.question for one in asked if one.question])
        found = {}
        for one, answer in zip(asked, generated, strict=True):
            told = answer.told()
            if told.get("confidence", 1.0) < self.min_confidence:
                told["not_sure"] = True
            found[one.id] = one.line(answer=answer.text, tokens=answer.tokens, **told)
        return found


def ask_all(
    asker: BulkAsker,
    output: Path | None,
    *,
    shard: tuple[int, int] = (0, 1),
    progress: bool = False,
    form: AnswerForm = JSON_LINES,
    unit: str = " rows",
) -> Counts:
    """Append the answers of a shard's questions to a file, after those that it holds.

    A torn last line, as a killed process leaves, is cut off. Every batch is written and flushed at once.

    Args:
        asker: What asks.
        output: The file of lines; None writes to standard output.
        shard: (i, n): rows i, i + n, i + 2n, ...
        progress: Whether to show a bar on standard error.
        form: How lines are written.
        unit: What the bar counts.

    Raises:
        ValueError: If the file holds something else than such lines, or two questions have one id.
    """
    index, count = shard
    answered = failed = 0
    with _opened(output, form) as (file, done):
        rows = range(index, len(asker.dataset), count)
        with tqdm(total=len(rows), unit=unit, disable=not progress) as bar:
            for lines in asker.lines(_counted(rows, bar), done):
                file.write(b"".join(map(form.written, lines)))
                file.flush()
                if output is not None:
                    os.fsync(file.fileno())
                wrong = sum("error" in line for line in lines)
                answered, failed = answered + len(lines) - wrong, failed + wrong
    return Counts(answered, failed, len(done))


def _opened(output: Path | None, form: AnswerForm) -> Any:
    return nullcontext((sys.stdout.buffer, {})) if output is None else open_answers(output, form)


def _counted(rows: Iterable[int], bar: Any) -> Iterator[int]:
    for row in rows:
        yield row
        bar.update()


def _told(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
