# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Evaluation by generated answers: metrics of `metrics.py` and character error rate, split by buckets.

Answers are generated greedily in batches; no logits are kept. Exact match has Wilson's 95 % interval, and every metric
one of a bootstrap over pages, because questions about one page are not independent.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import torch
from tqdm.auto import tqdm

from fila.modeling.modeling_fila import FilaForConditionalGeneration
from fila.processing.image_processing_fila import FilaImageProcessor, FilaImageProcessorPil
from fila.processing.image_source import shown
from fila.processing.processing_fila import FilaProcessor

from .answering import Answerer, source_key
from .data import Question
from .data_rows import image_size
from .metrics import METRICS, applying_metrics, bootstrap_interval, edit_distance, exact, wilson_interval

Bucket = Callable[[Question], str | None]  # a question's bucket, or None
CAP_HEIGHTS = (2, 3, 4, 6, 8, 12, 16)
SMALL_PRINT, LARGE_ENOUGH = "at most 4 px on tiles, on the high-res canvas", "8 px or more"  # a split, and its bucket


@dataclass(frozen=True)
class Answered:
    """A model's answer and the right one.

    Attributes:
        question: The last text of the prompt.
        reference: The right answer.
        prediction: The model's answer.
        buckets: Name of each split to the question's bucket.
        sample: Index of the sample.
        images: Files of its images; None for an image given as pixels.
        videos: Likewise.
        references: All right answers; empty means `reference` alone.
        page: What the question is about: equal for questions about the same images and videos.
        logprob: Log-probability of the answer, its end token too.
        mean_logprob: The same per token.
        confidence: Probability of the answer.
    """

    question: str
    reference: str
    prediction: str
    buckets: Mapping[str, str]
    sample: int | None = None
    images: Sequence[str | None] = ()
    videos: Sequence[str | None] = ()
    references: Sequence[str] = ()
    page: str = ""
    logprob: float | None = None
    mean_logprob: float | None = None
    confidence: float | None = None

    @property
    def right_answers(self) -> Sequence[str]:
        """All right answers."""
        return self.references or [self.reference]

    @property
    def exact(self) -> bool:
        """Whether the prediction equals a right answer, white space aside."""
        return bool(exact(self.prediction, self.right_answers))


@dataclass(frozen=True)
class Mean:
    """Mean of a metric over some questions.

    Attributes:
        value: The mean.
        low: Lower end of its 95 % interval, by a bootstrap over pages; None where all questions share a page.
        high: Upper end, likewise.
    """

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Score:
    """Result over some questions.

    Attributes:
        count: Number of questions.
        exact_match: Share of answers that are right.
        low: Lower end of its 95 % interval, Wilson's.
        high: Upper end.
        character_error_rate: Edits of all answers over characters of the right answers that are closest to them.
        pages: Number of pages that the questions are about.
        empty: Number of empty answers; VQA accuracy can count one as right.
        metrics: Name of each metric to its mean.
    """

    count: int
    exact_match: float
    low: float
    high: float
    character_error_rate: float
    pages: int = 0
    empty: int = 0
    metrics: Mapping[str, Mean] = field(default_factory=dict)


def page_of(question: Question) -> str:
    """Return a key that questions about the same images and videos share; empty without any."""
    return " ".join(source_key(source) for source in [*question.images, *question.videos])


def by_number(key: str, edges: Sequence[float] = CAP_HEIGHTS) -> Bucket:
    """Return a split by a number in the question's field; an edge belongs to the bucket below it.

    Example:
        >>> by_number("height", (2, 4))(Question([], [], "", {"height": 4}))
        '2 to 4'
    """

    def bucket(question: Question) -> str | None:
        value = (question.field or {}).get(key)
        if value is None:
            return None
        below = [edge for edge in edges if value > edge]
        above = edges[len(below) :]
        if not below:
            return f"up to {above[0]:g}"
        return f"{below[-1]:g} to {above[0]:g}" if above else f"over {below[-1]:g}"

    return bucket


def by_tiles(image_processor: FilaImageProcessor | FilaImageProcessorPil) -> Bucket:
    """Return a split by the number of tiles of the question's images."""

    def bucket(question: Question) -> str | None:
        plans = [image_processor.plan(*image_size(image, image_processor.page_size)) for image in question.images]
        return f"{sum(plan.num_tiles for plan in plans)} tiles"

    return bucket


def small_print(question: Question) -> str | None:
    """Return the bucket of text of up to 4 pixels on the tile canvas: at least 8 on the high-res canvas, or less."""
    field = question.field or {}
    if not {"tile_cap_height", "high_res_cap_height"} <= set(field) or field["tile_cap_height"] > 4:
        return None
    return LARGE_ENOUGH if field["high_res_cap_height"] >= 8 else "below 8 px"


def default_buckets(processor: FilaProcessor) -> dict[str, Bucket]:
    """Return the default splits: by resolution and, if a question's field has it, by capital height."""
    return {
        "tile_cap_height": by_number("tile_cap_height"),
        "high_res_cap_height": by_number("high_res_cap_height"),
        SMALL_PRINT: small_print,
        "resolution": by_tiles(processor.image_processor),
    }


@torch.no_grad()
def answer_questions(
    model: FilaForConditionalGeneration,
    processor: FilaProcessor,
    questions: Iterable[Question],
    *,
    buckets: Mapping[str, Bucket] | None = None,
    batch_size: int = 8,
    max_new_tokens: int = 64,
    progress: bool = False,
) -> Iterator[Answered]:
    """Ask a model batch by batch, and yield answers, which hold text and no tensors.

    An image that several questions follow each other about is encoded once, see `Answerer`.

    Args:
        model: A `FilaForConditionalGeneration`; it is in eval mode during the call.
        processor: Its processor.
        questions: See `fila.training.data.questions`.
        buckets: Splits; `default_buckets` by default.
        batch_size: Questions per call of `generate`.
        max_new_tokens: Longest answer.
        progress: Whether to show a bar on standard error.
    """
    buckets = default_buckets(processor) if buckets is None else buckets
    answer = Answerer(model, processor, max_new_tokens, confidence=True)
    waiting, was_training = iter(questions), model.training
    total = len(questions) if isinstance(questions, Sequence) else None
    model.eval()
    try:
        with tqdm(total=total, unit=" questions", disable=not progress) as bar:
            while batch := list(islice(waiting, batch_size)):
                for asked, found in zip(batch, answer(batch), strict=True):
                    labels = {name: label for name in buckets if (label := buckets[name](asked)) is not None}
                    yield Answered(
                        asked.text,
                        asked.answer,
                        found.text,
                        labels,
                        asked.sample,
                        _files(asked.images),
                        _files(asked.videos),
                        asked.references,
                        page_of(asked),
                        **found.told(),
                    )
                bar.update(len(batch))
    finally:
        model.train(was_training)


def _files(sources: Sequence[Any]) -> list[str | None]:
    """Return file names of images or videos; `datasets` gives undecoded ones as dicts of bytes and path."""
    return [shown(source.get("path") if isinstance(source, Mapping) else source) for source in sources]


def score(answers: Sequence[Answered], metrics: Sequence[str] | None = None) -> Score:
    """Score answers together.

    Args:
        answers: The answers.
        metrics: Names of `METRICS`; those that apply by default.
    """
    right = sum(answer.exact for answer in answers)
    edits = characters = 0
    for answer in answers:
        found = [(edit_distance(answer.prediction, text), len(text)) for text in answer.right_answers]
        distance, length = min(found, key=lambda pair: (pair[0] / max(1, pair[1]), pair[0]))
        edits, characters = edits + distance, characters + length
    low, high = wilson_interval(right, len(answers))
    pages = [answer.page or f"sample {answer.sample}" for answer in answers]
    if metrics is None:
        metrics = applying_metrics([answer.right_answers for answer in answers])
    means = {}
    for name in metrics:
        values = [METRICS[name](answer.prediction, answer.right_answers) for answer in answers]
        means[name] = Mean(sum(values) / max(1, len(values)), *(bootstrap_interval(values, pages) or (None, None)))
    return Score(
        len(answers),
        right / max(1, len(answers)),
        low,
        high,
        edits / max(1, characters),
        len(set(pages)),
        sum(not answer.prediction.strip() for answer in answers),
        means,
    )


def score_buckets(answers: Sequence[Answered], metrics: Sequence[str] | None = None) -> dict[str, dict[str, Score]]:
    """Score all answers together, as bucket "all" of split "all", and each bucket of each split.

    Args:
        answers: The answers.
        metrics: Names of `METRICS`; by default those that apply to all answers together.
    """
    if metrics is None:
        metrics = applying_metrics([answer.right_answers for answer in answers])
    scores = {"all": {"all": score(answers, metrics)}}
    for split in dict.fromkeys(name for answer in answers for name in answer.buckets):
        groups: dict[str, list[Answered]] = {}
        for answer in answers:
            if split in answer.buckets:
                groups.setdefault(answer.buckets[split], []).append(answer)
        scores[split] = {label: score(groups[label], metrics) for label in sorted(groups, key=_numbers)}
    return scores


def _numbers(label: str) -> tuple[list[float], str]:
    """Return a sort key of labels: the numbers in them."""
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", label)], label


def as_json(scores: Mapping[str, Mapping[str, Score]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Convert scores to plain JSON."""
    return {split: {label: asdict(each) for label, each in found.items()} for split, found in scores.items()}
