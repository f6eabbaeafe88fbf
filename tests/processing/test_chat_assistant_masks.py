# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Assistant masks on expanded prompts."""

from fila.processing.chat_assistant_masks import assistant_masks

# The prompt "aIbIcd" with I expanded to III, one token per character.
EXPANDED = "aIIIbIIIcd"
OFFSETS = [(start, start + 1) for start in range(len(EXPANDED))]
REPLACEMENTS = [{"span": (1, 2), "new_span": (1, 4)}, {"span": (3, 4), "new_span": (5, 8)}]


def marked(spans: list[tuple[int, int]], offsets: list[tuple[int, int]] = OFFSETS) -> str:
    (mask,) = assistant_masks([offsets], [REPLACEMENTS], [spans])
    return "".join(EXPANDED[start:end] for (start, end), bit in zip(offsets, mask, strict=True) if bit)


def test_mask_before_between_and_after_images() -> None:
    assert marked([(0, 1)]) == "a"
    assert marked([(2, 3)]) == "b"
    assert marked([(4, 6)]) == "cd"
    assert marked([(0, 1), (4, 5)]) == "ac"


def test_mask_of_a_span_with_an_image_in_it() -> None:
    assert marked([(2, 5)]) == "bIIIc"


def test_mask_takes_a_token_that_crosses_the_edge() -> None:
    assert marked([(5, 6)], [*OFFSETS[:8], (8, 10)]) == "cd"


def test_mask_leaves_padding_out() -> None:
    (mask,) = assistant_masks([[(0, 0), (0, 0), *OFFSETS]], [REPLACEMENTS], [[(0, 1)]])
    assert mask == [0, 0, 1] + [0] * 9


def test_mask_without_spans_is_zero() -> None:
    assert assistant_masks([OFFSETS, OFFSETS], [REPLACEMENTS, []], [[], []]) == [[0] * 10, [0] * 10]
