# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Which tokens the assistant wrote, after images have been expanded.

A chat template marks the assistant's text by character positions in the prompt; every image token expanded before them
moves them. Newer versions of transformers account for that in `ProcessorMixin`; this is for those that do not.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any


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
