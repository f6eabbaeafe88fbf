# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Stop for answers that repeat themselves without end, as models do on long pages.

The rule: the answer ends in a unit of text that comes at least four times in a row and fills at least 32 characters.
The unit is primitive: `ab`, not `abab`. Tables, dot leaders, code and columns of digits do that too, but they end, so
an answer is stopped only when it has gone on so for `PATIENCE` tokens after the fourth time.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers import StoppingCriteria

TIMES, CHARACTERS = 4, 32
PATIENCE = 60  # tokens after the fourth time
EVERY = 4  # tokens between two looks


class Repetition(NamedTuple):
    """A unit that a text ends with, several times in a row.

    Attributes:
        unit: The unit.
        times: How often it comes, a last part of it not counted.
        start: Index in the text of the first one.
    """

    unit: str
    times: int
    start: int

    def cut(self, text: str) -> str:
        """Return the text with the unit once."""
        return text[: self.start + len(self.unit)].rstrip()

    def notice(self) -> str:
        """Return a sentence about what was cut off."""
        return f"stopped and cut, because it repeated {self.unit[:60]!r} {self.times} times"


def find_repetition(text: str) -> Repetition | None:
    """Find the shortest unit that a text ends with at least four times in a row, over at least 32 characters.

    Example:
        >>> find_repetition("The end. " + "and so on " * 4)
        Repetition(unit=' and so on', times=4, start=8)
        >>> find_repetition("The end. " + "and so on " * 3)
    """
    for length in range(1, len(text) // TIMES + 1):
        if text[-1] != text[-1 - length]:
            continue
        times = max(TIMES, -(-CHARACTERS // length))
        start = len(text) - length * times
        if start < 0 or not text.endswith(text[-length:] * times):
            continue
        while start > 0 and text[start - 1] == text[start - 1 + length]:
            start -= 1
        return Repetition(text[start : start + length], (len(text) - start) // length, start)
    return None


def stopped_by(tokens: Sequence[int], tokenizer: Any) -> Repetition | None:
    """Return the repetition for which an answer of these tokens is stopped, or None.

    Args:
        tokens: The answer's tokens, without the prompt.
        tokenizer: What decodes them.
    """
    if len(tokens) <= PATIENCE:
        return None
    found = find_repetition(tokenizer.decode(tokens, skip_special_tokens=True))
    if found is None:
        return None
    before = len(tokenizer.decode(tokens[:-PATIENCE], skip_special_tokens=True))
    return found if before - found.start >= TIMES * len(found.unit) else None


class RepetitionStop(StoppingCriteria):
    """Criterion that stops the rows of `generate` that repeat themselves; see `stopped_by`.

    Each row is judged by itself, by its new tokens alone. An object can serve several calls, one after the other:

        model.generate(**inputs, stopping_criteria=[RepetitionStop(processor.tokenizer)])

    Args:
        tokenizer: What decodes the answers.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._prompt: torch.Tensor | None = None
        self._length = 0

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> torch.BoolTensor:
        """Return which rows `(B,)` to stop, from all tokens `(B, L)`."""
        prompt = self._prompt
        if (
            prompt is None
            or input_ids.shape[1] <= self._length
            or len(prompt) != len(input_ids)
            or not torch.equal(input_ids[:, : prompt.shape[1]], prompt)
        ):
            self._prompt = prompt = input_ids[:, :-1].clone()  # a new call: one token is there
        self._length = input_ids.shape[1]
        new = self._length - prompt.shape[1]
        stopped = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        if new > PATIENCE and new % EVERY == 0:
            for row, tokens in enumerate(input_ids[:, prompt.shape[1] :].tolist()):
                stopped[row] = stopped_by(tokens, self.tokenizer) is not None
        return stopped  # type: ignore[return-value]
