# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Few combinations in which every two values that may meet do meet."""

import random
from collections.abc import Callable, Sequence
from itertools import combinations

Combination = tuple[str, ...]
Pair = tuple[int, str, int, str]


def pairs_of(combination: Combination) -> list[Pair]:
    """All pairs of values, each with the place of its dimension, in an order that no hash decides."""
    return [(i, a, j, b) for (i, a), (j, b) in combinations(enumerate(combination), 2)]


def covering(
    allowed: Sequence[Combination], wanted: Callable[[Pair], bool] = lambda pair: True, seed: int = 0, tries: int = 40
) -> list[Combination]:
    """Greedy choice out of `allowed` that holds every wanted pair that any of them holds."""
    draw = random.Random(seed)
    by_pair: dict[Pair, list[Combination]] = {}
    for combination in allowed:
        for pair in filter(wanted, pairs_of(combination)):
            by_pair.setdefault(pair, []).append(combination)
    open_pairs = dict.fromkeys(by_pair)  # a set that keeps its order
    chosen: list[Combination] = []
    while open_pairs:
        holders = by_pair[next(iter(open_pairs))]
        candidates = draw.sample(holders, min(tries, len(holders)))
        best = max(candidates, key=lambda combination: sum(pair in open_pairs for pair in pairs_of(combination)))
        chosen.append(best)
        for pair in pairs_of(best):
            open_pairs.pop(pair, None)
    return chosen
