# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Slow twin of the injection: one layer, one sample and one placeholder at a time."""

from typing import Any

import torch


def naive_injection(
    language_model: Any,
    embeddings: torch.Tensor,
    placeholders: torch.Tensor,
    streams: dict[int, list[torch.Tensor]],
) -> torch.Tensor:
    """Last hidden state `(B, L, M)` of a language model of LLaMA's layout, without padding.

    Args:
        language_model: The language model; its layers are called alone.
        embeddings: `(B, L, M)`, already multiplied.
        placeholders: `(B, L)` bool.
        streams: By layer the tokens `(N_i, M)` of each image.
    """
    length = embeddings.shape[1]
    places = torch.arange(length)[None]
    future = torch.full((length, length), -torch.inf, dtype=embeddings.dtype).triu(1)[None, None]
    hidden = embeddings
    angles = language_model.rotary_emb(hidden, position_ids=places)
    for number, layer in enumerate(language_model.layers):
        if number in streams:
            tokens = iter(token for image in streams[number] for token in image)
            rows = []
            for sample, row in enumerate(hidden):
                rows.append(
                    torch.stack([x + next(tokens) if placeholders[sample, at] else x for at, x in enumerate(row)])
                )
            hidden = torch.stack(rows)
        hidden = layer(hidden, attention_mask=future, position_ids=places, position_embeddings=angles)
    result: torch.Tensor = language_model.norm(hidden)
    return result
