# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Evaluation by generated answers: exact match and character error rate, split by buckets.

Answers are generated greedily in batches; no logits are kept. Intervals are Wilson's, 95 %.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import torch
from tqdm.auto import tqdm

from fila.modeling.modeling_fila import FilaForConditionalGeneration
from fila.processing.image_processing_fila import FilaImageProcessor, FilaImageProcessorPil
from fila.processing.image_source import shown
from fila.processing.processing_fila import FilaProcessor

from .collator import FilaCollator
from .data import Question
from .data_rows import image_size

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
    """

    question: str
    reference: str
    prediction: str
    buckets: Mapping[str, str]
    sample: int | None = None
    images: Sequence[str | None] = ()
    videos: Sequence[str | None] = ()

    @property
    def exact(self) -> bool:
        """Whether both texts are equal apart from white space."""
        return self.prediction.split() == self.reference.split()


@dataclass(frozen=True)
class Score:
    """Result over some questions.

    Attributes:
        count: Number of questions.
        exact_match: Share of answers that are right.
        low: Lower end of its 95 % interval.
        high: Upper end.
        character_error_rate: Edits of all answers over characters of all right answers.
    """

    count: int
    exact_match: float
    low: float
    high: float
    character_error_rate: float


def edit_distance(first: str, second: str) -> int:
    """Return the fewest insertions, deletions and substitutions of characters between two texts.

    Example:
        >>> edit_distance("12.50", "12,5")
        2
    """
    row = list(range(len(second) + 1))
    for above, character in enumerate(first, 1):
        diagonal, row[0] = row[0], above
        for column, other in enumerate(second, 1):
            substituted = diagonal + (character != other)
            diagonal = row[column]
            row[column] = min(substituted, row[column] + 1, row[column - 1] + 1)
    return row[-1]


def wilson_interval(successes: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Return Wilson's interval of a share; (0, 1) without trials.

    Example:
        >>> [round(end, 3) for end in wilson_interval(9, 10)]
        [0.596, 0.982]
    """
    if count == 0:
        return 0.0, 1.0
    share, spread = successes / count, z * z / count
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


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
        plans = [image_processor.plan(*image_size(image)) for image in question.images]
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
    collate = FilaCollator(processor, generate=True)
    waiting, was_training = iter(questions), model.training
    total = len(questions) if isinstance(questions, Sequence) else None
    model.eval()
    try:
        with tqdm(total=total, unit=" questions", disable=not progress) as bar:
            while batch := list(islice(waiting, batch_size)):
                names = ("images", "videos", "messages")
                inputs = collate([{name: getattr(asked, name) for name in names} for asked in batch])
                inputs = {name: tensor.to(model.device) for name, tensor in inputs.items()}
                tokens = model.generate(
                    **inputs,
                    max_new_tokens=max_new_tokens,
                    do_sample=False,
                    pad_token_id=processor.tokenizer.pad_token_id,
                )
                new = tokens[:, inputs["input_ids"].shape[1] :]
                texts = processor.tokenizer.batch_decode(new, skip_special_tokens=True)
                for asked, text in zip(batch, texts, strict=True):
                    found = {name: bucket(asked) for name, bucket in buckets.items()}
                    labels = {name: label for name, label in found.items() if label is not None}
                    files = _files(asked.images), _files(asked.videos)
                    yield Answered(asked.text, asked.answer, text.strip(), labels, asked.sample, *files)
                bar.update(len(batch))
    finally:
        model.train(was_training)


def _files(sources: Sequence[Any]) -> list[str | None]:
    """Return file names of images or videos; `datasets` gives undecoded ones as dicts of bytes and path."""
    return [shown(source.get("path") if isinstance(source, Mapping) else source) for source in sources]


def score(answers: Sequence[Answered]) -> Score:
    """Score answers together."""
    right = sum(answer.exact for answer in answers)
    edits = sum(edit_distance(answer.prediction, answer.reference) for answer in answers)
    characters = sum(len(answer.reference) for answer in answers)
    low, high = wilson_interval(right, len(answers))
    return Score(len(answers), right / max(1, len(answers)), low, high, edits / max(1, characters))


def score_buckets(answers: Sequence[Answered]) -> dict[str, dict[str, Score]]:
    """Score all answers together, as bucket "all" of split "all", and each bucket of each split."""
    scores = {"all": {"all": score(answers)}}
    for split in dict.fromkeys(name for answer in answers for name in answer.buckets):
        groups: dict[str, list[Answered]] = {}
        for answer in answers:
            if split in answer.buckets:
                groups.setdefault(answer.buckets[split], []).append(answer)
        scores[split] = {label: score(groups[label]) for label in sorted(groups, key=_numbers)}
    return scores


def _numbers(label: str) -> tuple[list[float], str]:
    """Return a sort key of labels: the numbers in them."""
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", label)], label


def as_json(scores: Mapping[str, Mapping[str, Score]]) -> dict[str, dict[str, dict[str, float]]]:
    """Convert scores to plain JSON."""
    return {split: {label: asdict(each) for label, each in found.items()} for split, found in scores.items()}
