# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Sizes at which the images of a prompt keep a limit of image tokens, per image and for the prompt.

Water-filling: the image with most tokens gives way first, step by step, until the sum fits. Small images are left
alone while large ones shrink, and equal images end within one step of each other.

A step shrinks both sides of an image by the same factor, `k / STEPS`, to the next size at which the canvas strategy
gives it fewer tokens. Strategies are not monotonic, so sizes that would cost more again are passed over.
"""

from collections.abc import Callable, Sequence

STEPS = 64
POLICIES = ("error", "drop_sample", "shrink_images")

Size = tuple[int, int]


def fit_prompt(
    sizes: Sequence[Size],
    count: Callable[[int, int], int],
    *,
    per_image: int | None = None,
    per_prompt: int | None = None,
) -> list[Size] | None:
    """Shrink the images of one prompt until both limits are kept.

    Args:
        sizes: (height, width) of the images, in pixels.
        count: Image tokens of an image of (height, width).
        per_image: Tokens that one image may have; None: any number.
        per_prompt: Tokens that all of them together may have; None: any number.

    Returns:
        (height, width) of each image, its own where it need not shrink; None where no sizes keep the limits.

    Example:
        >>> fit_prompt([(64, 64), (8, 8)], lambda height, width: height * width, per_prompt=1200)
        [(33, 33), (8, 8)]
    """
    fitted = list(sizes)
    tokens = [count(*size) for size in sizes]
    for index, size in enumerate(sizes):
        while per_image is not None and tokens[index] > per_image:
            smaller = _next_smaller(size, fitted[index], tokens[index], count)
            if smaller is None:
                return None
            fitted[index], tokens[index] = smaller
    can_shrink = set(range(len(sizes)))
    while per_prompt is not None and sum(tokens) > per_prompt:
        if not can_shrink:
            return None
        # Of equal ones the last gives way, so that what comes first in a prompt is kept longest.
        largest = max(can_shrink, key=lambda index: (tokens[index], index))
        smaller = _next_smaller(sizes[largest], fitted[largest], tokens[largest], count)
        if smaller is None:
            can_shrink.discard(largest)
        else:
            fitted[largest], tokens[largest] = smaller
    return fitted


def _next_smaller(size: Size, present: Size, tokens: int, count: Callable[[int, int], int]) -> tuple[Size, int] | None:
    """The largest `k / STEPS` of a size, below its present one, with fewer tokens than it has there."""
    for step in range(STEPS - 1, 0, -1):
        smaller = max(1, size[0] * step // STEPS), max(1, size[1] * step // STEPS)
        if (smaller[0] < present[0] or smaller[1] < present[1]) and (fewer := count(*smaller)) < tokens:
            return smaller, fewer
    return None
