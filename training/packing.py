# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Packing: several samples in one row, up to a number of tokens, so that hardly any computation goes into padding.

Each sample's positions start again, by which the language model keeps the samples apart: a packed sample has the
logits and the gradients of the sample alone. `PackedSamples` chooses which samples share a row; `FilaCollator` makes
the row of a list of samples.
"""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from torch.utils.data import Dataset

from fila.modeling.modeling_packed_rows import check_packed
from fila.processing.layout import as_text, lay_out

from .collator import FilaCollator, read_sample
from .data import select_sample_columns
from .data_rows import image_size


def fill_rows(sizes: Sequence[tuple[int, int]], most_tokens: int, most_views: int | None = None) -> list[list[int]]:
    """Distribute samples over rows: the longest first, each into the fullest row that still has space for it.

    Args:
        sizes: (tokens, views) of each sample.
        most_tokens: Tokens that a row may hold.
        most_views: Views of images that a row may hold, if the memory of the towers is what limits it.

    Returns:
        Indices of the samples of each row. A sample that exceeds a limit alone has a row of its own.
    """
    rows: list[list[int]] = []
    space: list[list[tuple[int, int]]] = [[] for _ in range(most_tokens + 1)]  # (row, its views) by tokens left
    filled = 0  # the bit n is set if there is a row with n tokens left
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index][0]):
        tokens, views = sizes[index]
        left, place = min(tokens, most_tokens), None
        while place is None and (above := filled >> left):
            left += (above & -above).bit_length() - 1
            fitting = (
                n for n, (_, held) in enumerate(space[left]) if most_views is None or held + views <= most_views
            )
            if (place := next(fitting, None)) is None:
                left += 1
        if place is None:
            row, held, left = len(rows), 0, most_tokens
            rows.append([])
        else:
            row, held = space[left].pop(place)
            filled &= ~(not space[left] and 1 << left)
        rows[row].append(index)
        left = max(0, left - tokens)
        if left:
            space[left].append((row, held + views))
            filled |= 1 << left
    return rows


class PackedSamples(Dataset[list[Mapping[str, Any]]]):
    """Dataset of rows: each item is a list of samples for `FilaCollator`, which makes one row of them.

    All samples are measured first; of images only the headers of files are read.

    Args:
        dataset: Samples, with a length.
        processor: The `FilaProcessor` that the collator has.
        max_length: Tokens that a row may hold, at the same time those that one sample may.
        max_views: Views of images that a row may hold; None: as many as its tokens allow.
        seed: Random seed of the order in which equally long samples are taken.
        sizes: (tokens, views) of each sample, if they are known: those of `measure`.

    Attributes:
        rows: Indices of the samples of each row.
        sizes: (tokens, views) of each sample.

    Raises:
        ValueError: If the dataset has no length, or a sample has videos, whose tokens are known only when decoded.
    """

    def __init__(
        self,
        dataset: Any,
        processor: Any,
        max_length: int,
        *,
        max_views: int | None = None,
        seed: int = 0,
        sizes: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        if not hasattr(dataset, "__len__"):
            raise ValueError(
                "Packing measures all samples before the first step, so it needs a dataset with a length; got "
                f"{type(dataset).__name__}."
            )
        for name, limit in (("max_length", max_length), ("max_views", max_views or 1)):
            if not isinstance(limit, int) or limit < 1:
                raise ValueError(f"`{name}` must be a positive integer: what a row may hold; got {limit!r}.")
        self.dataset = dataset
        self.sizes = [*(measure(dataset, processor) if sizes is None else sizes)]
        if len(self.sizes) != len(dataset):
            raise ValueError(f"`sizes` must have one entry per sample: {len(dataset)}; got {len(self.sizes)}.")
        order = Random(seed).sample(range(len(dataset)), len(dataset))
        shuffled = [(min(self.sizes[index][0], max_length), self.sizes[index][1]) for index in order]
        self.rows = [[order[place] for place in row] for row in fill_rows(shuffled, max_length, max_views)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> list[Mapping[str, Any]]:
        return [self.dataset[sample] for sample in self.rows[index]]


def measure(dataset: Any, processor: Any) -> list[tuple[int, int]]:
    """Return the number of tokens and of views of each sample, as the processor will make them."""
    data = select_sample_columns(dataset)
    settings = processor._merge_kwargs(processor.valid_processor_kwargs)["images_kwargs"]
    found = []
    for number in range(len(data)):
        sample = read_sample(data[number], f"Sample {number}")
        if sample["videos"]:
            raise ValueError(
                f"Sample {number} has videos, whose tokens are known only when they are decoded: packing takes images "
                "and text alone. Train without it, or leave the videos out."
            )
        sizes = [image_size(image, processor.image_processor.page_size) for image in sample["images"]]
        sizes = processor._budgeted_sizes(sizes, number, settings, may_drop=True) or sizes
        plans = [processor.image_processor.plan(*size) for size in sizes]
        geometries = [processor._geometry_of(plan.tile_grid, plan.view_sizes, plan.image_size) for plan in plans]
        text = processor.apply_chat_template(sample["messages"], tokenize=False)
        first, *rest = text.split(processor.image_token)
        images = (
            as_text(lay_out(processor._layout, own, n), processor.image_token) for n, own in enumerate(geometries)
        )
        text = first + "".join(image + after for image, after in zip(images, rest, strict=True))
        tokens = len(processor.tokenizer(text, add_special_tokens=False)["input_ids"])
        found.append((tokens, sum(plan.num_views for plan in plans)))
    return found


def check_packing(model: Any, collator: object) -> None:
    """Check that a model and a collator can train on packed rows, before the first step.

    Raises:
        ValueError: If the model cannot keep samples apart, or the collator changes lengths or weights.
    """
    base = getattr(model, "get_base_model", lambda: model)()
    base = getattr(base, "model", base)
    check_packed(base.language_model, shared=base.config.shared_positions)
    if isinstance(collator, FilaCollator):
        for name in ("random_scale", "loss_weight"):
            if getattr(collator, name) is not None:
                raise ValueError(f"Packing cannot go with the collator's `{name}`: rows hold several samples.")
