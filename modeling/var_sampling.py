# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Filter the ids that may be drawn: top-k, then top-p, as in VAR's `models/helpers.py` @ 78b9539."""

import torch


def filtered_logits(logits: torch.Tensor, *, top_k: int = 0, top_p: float = 0.0) -> torch.Tensor:
    """Return the logits with minus infinity for ids that may not be drawn.

    Args:
        logits: `(..., V)`.
        top_k: Keep the `top_k` largest logits and ties with the smallest of them; 0 keeps all.
        top_p: Then drop the smallest while their probabilities sum to at most 1 - `top_p`; 0 keeps all. The largest
            stays.

    Returns:
        `(..., V)`, a copy.

    Raises:
        ValueError: If `top_p` is not between 0 and 1 or `top_k` is negative.
    """
    if not 0 <= top_p <= 1 or top_k < 0:
        raise ValueError(f"`top_p` must lie in 0..1 and `top_k` must not be negative; got {top_p} and {top_k}.")
    if top_k:
        smallest = logits.topk(min(top_k, logits.shape[-1]), dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < smallest, -torch.inf)
    if top_p:
        ascending, order = logits.sort(dim=-1)
        dropped = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
        dropped[..., -1] = False
        logits = logits.masked_fill(dropped.scatter(-1, order, dropped), -torch.inf)
    return logits.clone()
