# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Which tokens the assistant wrote, after images have been expanded.

A chat template marks the assistant's text by character positions in the prompt; every image token expanded before them
moves them. Newer versions of transformers account for that in `ProcessorMixin`; this is for those that do not, and for
templates that mark nothing, as those of most language models.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any


def marks_assistant(template: str) -> bool:
    """Whether a chat template marks what the assistant writes."""
    return re.search(r"\{%-?\s*generation\s*-?%\}", template) is not None


def assistant_spans(render: Callable[[list[Any], bool], str], messages: list[Any]) -> list[tuple[int, int]]:
    """Find what the assistant's messages add to a prompt, for a template that does not mark it.

    Args:
        render: Writes messages; with True, the beginning of an answer behind them.
        messages: A conversation.

    Returns:
        (start, end) in characters of the prompt of all messages, without the white space behind a turn.

    Raises:
        ValueError: If the prompt of all messages does not begin as that of the first ones.

    Example:
        >>> def render(messages, begin_answer):
        ...     return "".join(f"{m['role'][0]}:{m['content']}; " for m in messages) + "a:" * begin_answer
        >>> turns = [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "Two."}]
        >>> assistant_spans(render, turns), render(turns, False)[10:15]
        ([(10, 15)], 'Two.;')
    """
    prompt, spans = render(messages, False), []
    for number, message in enumerate(messages):
        if message["role"] == "assistant":
            before, after = render(messages[:number], True), render(messages[: number + 1], False)
            if not (prompt.startswith(before) and prompt.startswith(after)):
                raise ValueError(
                    "A chat template must mark what the assistant writes with {% generation %} and {% endgeneration "
                    f"%}}, or write messages one after the other; this one does neither, as message {number} shows."
                )
            spans.append((len(before), len(after.rstrip())))
    return spans


def assistant_masks(
    offset_mapping: Sequence[Sequence[Sequence[int]]],
    replacements: Sequence[Sequence[dict[str, Any]]],
    spans: Sequence[Sequence[Sequence[int]]],
) -> list[list[int]]:
    """Mark the tokens that overlap a span of the assistant.

    Args:
        offset_mapping: Per sample and token, (start, end) in characters of the expanded prompt; padding is empty.
        replacements: Per sample, the expansions: `span` in the prompt and `new_span` in the expanded prompt.
        spans: Per sample, (start, end) in characters of the prompt.

    Returns:
        Per sample, 1 for each token of the assistant and 0 for every other.

    Example:
        >>> expanded = [{"span": (0, 1), "new_span": (0, 3)}]
        >>> assistant_masks([[(0, 1), (1, 2), (2, 3), (3, 4), (0, 0)]], [expanded], [[(1, 2)]])
        [[0, 0, 0, 1, 0]]
    """
    masks = []
    for offsets, expansions, sample_spans in zip(offset_mapping, replacements, spans, strict=True):
        ends = [expansion["span"][1] for expansion in expansions]
        gained = [0, *(expansion["new_span"][1] - expansion["span"][1] for expansion in expansions)]
        moved = [[edge + gained[bisect_right(ends, edge)] for edge in span] for span in sample_spans]
        masks.append([int(any(start < stop and end > first for first, stop in moved)) for start, end in offsets])
    return masks
