# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Pair the placeholders of a batch with its images, one by one, and reject the first image that does not fit."""

from typing import Any

import torch

# Of `image_token_index`, as the processor's layout writes them.
NEWLINE, PADDING, SEPARATOR = -1, -2, -3
DROPPED = -4  # DROPPED - t stands for token t, which pruning left out
_FIX = "Load processor and model from one checkpoint and pass the processor's output unchanged."
_GENERATED = (
    "or a model generated placeholders, which the `suppress_tokens` of its generation config should prevent: drop "
    "such an answer"
)
# Advice in errors, by the thing that is missing; `noun` is "image" or "video".
_CAUSES = (
    "The text was cut after the {noun} tokens were expanded, the processor's `tokens_per_tile` is not the model's, "
    f"one {{noun}} is missing or listed under another sample, {_GENERATED}. {_FIX}"
)
_NO_IMAGE = f"One {{noun}} is missing or listed under another sample, {_GENERATED}. {_FIX}"
CACHED = (
    "With a cache of earlier turns pass only the {noun}s whose placeholders are in the `input_ids` of this call, or "
    "to `generate` the whole conversation with all its {noun}s."
)
_NO_PLACEHOLDER = f"The text was cut, or the {{noun}} is listed under another sample. {_FIX} {CACHED}"


def images_per_sample(
    placeholders: torch.Tensor, lengths: list[int], *, contiguous: bool = True, noun: str = "image"
) -> list[int]:
    """Return how many images, or videos, belong to each sample.

    Args:
        placeholders: `(B, L)` bool, true at placeholders.
        lengths: Image tokens of each image, in the order of the batch.
        contiguous: Whether the placeholders of one image must be one run.
        noun: Word for an image in errors: "image" or "video".

    Returns:
        Number of images of each sample.

    Raises:
        ValueError: If a sample's placeholders do not match the next images; names the sample, the image and both
            counts.
    """
    counts = []
    image = 0
    for sample, row in enumerate(placeholders.cpu()):
        positions = row.nonzero().flatten().tolist()
        first = image
        start = 0
        while start < len(positions):
            left = len(positions) - start
            if image == len(lengths):
                raise ValueError(
                    f"Sample {sample} has {left} placeholders left after its {image - first} {noun}s, but the batch "
                    f"has no more {noun}s: {len(lengths)} were passed. {_NO_IMAGE.format(noun=noun)}"
                )
            length = lengths[image]
            run = positions[start : start + length]
            if len(run) < length:
                raise ValueError(
                    f"{noun.capitalize()} {image} has {length} {noun} tokens, but sample {sample} holds only {left} "
                    f"placeholders for it. {_CAUSES.format(noun=noun)}"
                )
            if contiguous and run[-1] - run[0] != length - 1:
                found = next(i for i in range(1, length) if run[i] - run[i - 1] != 1)
                raise ValueError(
                    f"{noun.capitalize()} {image} has {length} {noun} tokens, but its run in sample {sample} holds "
                    f"{found} placeholders. {_CAUSES.format(noun=noun)}"
                )
            start += length
            image += 1
        counts.append(image - first)
    if image < len(lengths):
        end = f"the batch's placeholders end after {noun} {image - 1}" if image else "the batch has none at all"
        raise ValueError(
            f"{noun.capitalize()} {image} has {lengths[image]} {noun} tokens, but no sample has placeholders left for "
            f"it: {end}. {_NO_PLACEHOLDER.format(noun=noun)}"
        )
    return counts


def select_tokens(
    tokens: torch.Tensor,
    index: torch.Tensor,
    newline: torch.Tensor | None,
    image: int,
    noun: str = "image",
    separator: torch.Tensor | None = None,
) -> torch.Tensor:
    """Sort the tokens of an image, or of a video, into the order of its placeholders.

    Args:
        tokens: `(N, M)` float, the tokens of all its views, overview first.
        index: `(P,)` int, for each placeholder its token; -1 the newline vector, -2 padding at the end, -3 the
            separator vector.
        newline: `(M,)` float, or None.
        image: Number of the image, for errors.
        noun: Word for it in errors: "image" or "video".
        separator: `(M,)` float, or None.

    Returns:
        One row per placeholder, `(at most P, M)`.

    Raises:
        ValueError: If a token, the newline vector or the separator vector does not exist.
    """
    index = torch.as_tensor(index, device=tokens.device)
    index = index[has_placeholder(index)]
    if index.numel() and int(index.max()) >= len(tokens):
        raise ValueError(
            f"`{noun}_token_index` names token {int(index.max())} of {noun} {image}, which has {len(tokens)} tokens. "
            f"{_CAUSES.format(noun=noun)}"
        )
    if newline is None and separator is None and not bool((index < 0).any()):
        return tokens[index]
    rows = [tokens]
    for number, vector, word in ((NEWLINE, newline, "newline"), (SEPARATOR, separator, "separator")):
        wanted = index == number
        if vector is not None:
            index = torch.where(wanted, sum(map(len, rows)), index)
            rows.append(vector[None].to(tokens))
        elif bool(wanted.any()):
            setting = "image_newline" if number == NEWLINE else "view_separator"
            raise ValueError(
                f"The layout of {noun} {image} has {word} vectors, but the model has none. Set `{setting}=True` "
                "in the model's config, or choose another layout."
            )
    return torch.cat(rows)[index]


def has_placeholder(index: torch.Tensor) -> torch.Tensor:
    """Return which entries of an `image_token_index` have a placeholder: all but padding and what pruning left out."""
    return (index != PADDING) & (index > DROPPED)


def repeated_rows(counts: list[int], times: int) -> list[int]:
    """Return the numbers of all images, each sample's block repeated."""
    rows, first = [], 0
    for count in counts:
        rows += list(range(first, first + count)) * times
        first += count
    return rows


def uncached_rows(
    placeholders: torch.Tensor, lengths: list[int], counts: list[int], num_cached: int, noun: str = "image"
) -> list[int]:
    """Return the numbers of the images that a cache does not hold.

    Args:
        placeholders: `(B, L)` bool, true at placeholders; for the whole conversations.
        lengths: Image tokens of each image.
        counts: Images of each sample, from `images_per_sample`.
        num_cached: Number of the `L` tokens in the cache.
        noun: Word for an image in errors: "image" or "video".

    Raises:
        ValueError: If the cache holds only a part of an image.
    """
    rows, image = [], 0
    for sample, count in enumerate(counts):
        left = int(placeholders[sample, :num_cached].sum())
        for _ in range(count):
            if left == 0:
                rows.append(image)
            elif left < lengths[image]:
                raise ValueError(
                    f"The cache of {num_cached} tokens ends inside {noun} {image}, of sample {sample}: it holds "
                    f"{left} of its {lengths[image]} tokens. Crop the cache before the {noun}, or start with an "
                    "empty one."
                )
            else:
                left -= lengths[image]
            image += 1
    return rows


def take_rows(inputs: dict[str, Any], names: tuple[str, ...], rows: list[int]) -> dict[str, Any]:
    """Pop the named inputs and return the given rows of them; return nothing if `rows` is empty."""
    taken = {name: inputs.pop(name) for name in names if inputs.get(name) is not None}
    return {
        name: value[rows] if isinstance(value, torch.Tensor) else [value[row] for row in rows]
        for name, value in taken.items()
        if rows
    }
