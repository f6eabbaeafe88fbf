# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Sampler that puts images with the same number of views and the same canvas into one batch, to avoid padding."""

from collections.abc import Iterator, Sequence
from itertools import chain
from random import Random

from torch.utils.data import Sampler

from fila.processing.image_processing_fila import FilaImageProcessor, FilaImageProcessorPil

Key = tuple[int, int, int]  # views of all images, largest height and largest width of their canvases


def resolution_key(
    sizes: Sequence[tuple[int, int]], image_processor: FilaImageProcessor | FilaImageProcessorPil
) -> Key:
    """Return the batching key of a sample from its images' sizes (height, width), without decoding."""
    plans = [image_processor.plan(height, width) for height, width in sizes]
    heights, widths = zip(*(plan.canvas_size for plan in plans), strict=True) if plans else ((0,), (0,))
    return sum(plan.num_views for plan in plans), max(heights), max(widths)


class ResolutionSampler(Sampler[int]):
    """Sampler of every index once; consecutive batches hold samples of one key where the counts allow.

    The sampler shuffles the samples, fills batches with samples of one key, fills further batches with the rest in
    the order of their keys, and shuffles the batches. (transformers' grouping by length sorts large groups of samples
    instead, and cuts
    batches across the borders of keys.)

    Args:
        keys: One per sample, see `resolution_key`.
        batch_size: Number of samples that are padded together, or that processes handle at the same time.
        seed: Random seed; seed and epoch determine the order.
    """

    def __init__(self, keys: Sequence[Key], batch_size: int, *, seed: int = 0) -> None:
        self.keys = keys
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which determines the order."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[int]:
        rng = Random(f"{self.seed} {self.epoch}")
        groups: dict[Key, list[int]] = {}
        for index in rng.sample(range(len(self.keys)), len(self.keys)):
            groups.setdefault(self.keys[index], []).append(index)
        batches, left = [], []
        for key in sorted(groups):
            *full, last = self._cut(groups[key])
            batches += full
            if len(last) == self.batch_size:
                batches.append(last)
            else:
                left += last
        mixed = self._cut(left)
        short = mixed.pop() if len(left) % self.batch_size else []
        batches += mixed
        rng.shuffle(batches)
        return chain(*batches, short)

    def _cut(self, indices: list[int]) -> list[list[int]]:
        return [indices[start : start + self.batch_size] for start in range(0, len(indices), self.batch_size)]
