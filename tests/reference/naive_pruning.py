# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Pruning of image tokens, one by one, as the specification says it."""

import math

import torch


def kept_cells(grid: list[list[int]]) -> list[list[bool]]:
    """Which cells PixelPrune keeps of a grid of ids; equal ids are equal pixels."""
    kept = []
    for row, ids in enumerate(grid):
        kept.append([])
        for col, own in enumerate(ids):
            if row == 0 and col == 0:
                kept[row].append(True)
            elif row == 0:
                kept[row].append(own != ids[col - 1])
            elif col == 0:
                kept[row].append(own != grid[row - 1][col])
            else:
                left, above, corner = ids[col - 1], grid[row - 1][col], grid[row - 1][col - 1]
                predicted = above if corner == left and corner != above else left
                kept[row].append(own != predicted)
    return kept


def attention_received(query: torch.Tensor, key: torch.Tensor, has_cls: bool) -> list[float]:
    """Score of each patch from queries and keys `(heads, N + P, d)` of one view; N is 1 with CLS, else 0."""
    heads, length, width = key.shape
    scores = [0.0] * length
    for head in range(heads):
        for reader in range(1 if has_cls else length):
            products = [float(query[head, reader] @ key[head, token]) / math.sqrt(width) for token in range(length)]
            largest = max(products)
            powers = [math.exp(product - largest) for product in products]
            for token in range(length):
                share = powers[token] / sum(powers)
                scores[token] += share if has_cls else share / (heads * length)
    return scores[1:] if has_cls else scores


def visionzip(
    hidden: torch.Tensor, scores: list[float], keys: torch.Tensor, dominant: int, contextual: int
) -> tuple[torch.Tensor, list[int]]:
    """VisionZip's tokens of one view, without CLS, and the dominant patches.

    Args:
        hidden: `(P, D)`.
        scores: Of each patch.
        keys: `(P, d)`, means over the heads.
        dominant: Patches that are kept.
        contextual: Tokens that the others are merged into.
    """
    best = sorted(range(len(scores)), key=lambda patch: -scores[patch])[:dominant]
    kept = sorted(best)
    rest = [patch for patch in range(len(scores)) if patch not in kept]
    step = max(1, len(rest) // contextual)
    targets = rest[::step][:contextual]
    members: dict[int, list[int]] = {target: [] for target in targets}
    for patch in rest:
        if patch not in targets:
            cosines = [float(keys[patch] @ keys[t] / keys[patch].norm() / keys[t].norm()) for t in targets]
            members[targets[cosines.index(max(cosines))]].append(patch)
    merged = []
    for target in targets:
        token = hidden[target]
        if members[target]:
            token = token + sum(hidden[patch] for patch in members[target]) / len(members[target])
        merged.append(token)
    return torch.stack([*(hidden[patch] for patch in kept), *merged]), kept
