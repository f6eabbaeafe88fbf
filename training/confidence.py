# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Log-probabilities of answers while they are generated, and how well they foretell which answers are right.

The confidence in an answer is the probability that the model gives to the whole of it, its end token too. For long
answers the mean per token says more.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria

BINS = 10


class _Keep(LogitsProcessor):
    """Keep the log-probabilities of the next token."""

    def __init__(self) -> None:
        self.logprobs: torch.Tensor | None = None

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        self.logprobs = scores.float().log_softmax(-1)
        return scores


class AnswerScores(StoppingCriteria):
    """Log-probability of each generated token, of the distribution before temperature and the like.

    Only one token's distribution is kept at a time. One object is for one call of `generate` without beams:

        scores = AnswerScores()
        tokens = model.generate(**inputs, **scores.arguments())
        scores.totals([len(answer)])
    """

    def __init__(self) -> None:
        self._keep = _Keep()
        self._found: list[torch.Tensor] = []

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `generate`."""
        return {"logits_processor": [self._keep], "stopping_criteria": [self]}

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> torch.BoolTensor:
        """Note the last token of each row; stop none."""
        logprobs = self._keep.logprobs
        if logprobs is None or len(logprobs) != len(input_ids):
            raise ValueError("Log-probabilities must be those of one answer per row: set `num_beams` to 1.")
        self._found.append(logprobs.gather(1, input_ids[:, -1:].to(logprobs.device))[:, 0])
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)  # type: ignore[return-value]

    def totals(self, lengths: Sequence[int]) -> list[float]:
        """Return the log-probability of each row's first tokens, as many as `lengths` says."""
        columns = torch.stack(self._found, dim=1).double().tolist()
        return [math.fsum(row[:length]) for row, length in zip(columns, lengths, strict=True)]


@dataclass(frozen=True)
class Reliability:
    """Answers of like confidence.

    Attributes:
        low: Least confidence of the bin.
        high: Largest.
        count: Number of answers.
        confidence: Mean confidence; 0 without answers.
        accuracy: Share of right answers; 0 without answers.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def reliability(confidences: Sequence[float], right: Sequence[bool], bins: int = BINS) -> list[Reliability]:
    """Sort answers into bins of equal width by confidence.

    Example:
        >>> reliability([0.9, 0.95, 0.2], [True, False, False], 2)[1].accuracy
        0.5
    """
    found = []
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        own = [(c, r) for c, r in zip(confidences, right, strict=True) if min(int(c * bins), bins - 1) == number]
        count = len(own)
        mean = sum(c for c, _ in own) / count if count else 0.0
        found.append(Reliability(low, high, count, mean, sum(r for _, r in own) / count if count else 0.0))
    return found


def calibration_error(bins: Sequence[Reliability]) -> float:
    """Return the expected calibration error: the mean gap of confidence and accuracy, weighted by answers.

    Example:
        >>> calibration_error(reliability([1.0, 1.0, 1.0, 1.0], [True, True, True, False]))
        0.25
    """
    total = sum(each.count for each in bins)
    return sum(each.count * abs(each.confidence - each.accuracy) for each in bins) / max(1, total)
