# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Loss weight that grows with the distance of an image's resolution from a base.

    weight = 1 + |1 - sqrt(height * width) / base|

Source: a blog article on multi-resolution training, which gives the formula with base 256 and no result.

Deviations: the article multiplies one loss by one weight; here a sample's tokens are weighted by the mean weight of
its images, and a sample without images has weight 1. An upper limit is an option, because 1344 x 1344 pixels weigh
5.25 times as much as 256 x 256. So is dividing by the mean weight (`FilaTrainer`), which keeps the gradient's size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class ResolutionWeight:
    """Weight of a sample by the sizes of its images.

    Args:
        base: Side in pixels of the square image whose weight is 1.
        maximum: Upper limit of an image's weight; None for none.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> ResolutionWeight()([(512, 512)])
        2.0
    """

    base: float = 256.0
    maximum: float | None = None

    def __post_init__(self) -> None:
        if not self.base > 0:
            raise ValueError(f"The base of the loss weight must be a positive number of pixels; got {self.base!r}.")
        if self.maximum is not None and self.maximum < 1:
            raise ValueError(f"The loss weight's maximum must be at least 1, its smallest value; got {self.maximum}.")

    def __call__(self, sizes: Sequence[tuple[int, int]]) -> float:
        """Return the mean weight of images of sizes (height, width); 1 without images."""
        limit = math.inf if self.maximum is None else self.maximum
        weights = [min(1 + abs(1 - math.sqrt(height * width) / self.base), limit) for height, width in sizes]
        return sum(weights) / len(weights) if weights else 1.0


def weighted_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor | None,
    num_items: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """Return the next-token loss with a weight per sample.

    Args:
        logits: `(B, L, vocabulary)` float.
        labels: `(B, L)` int, -100 where nothing is predicted.
        weights: `(B,)` float; None for ones.
        num_items: Divisor of the sum; the number of predicted tokens by default.

    Returns:
        A scalar.
    """
    targets = labels[:, 1:].to(logits.device)
    losses = F.cross_entropy(logits[:, :-1].float().flatten(0, 1), targets.flatten(), reduction="none")
    losses = losses.view(targets.shape)
    if weights is not None:
        losses = losses * weights.to(losses)[:, None]
    total = (targets != -100).sum() if num_items is None else num_items
    return losses.sum() / torch.as_tensor(total, device=losses.device)
