# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Slow twin of a next-scale block, written from the equations: one sample, one token, one head at a time."""

import math

import torch

from tests.reference.naive_layers import Weights


def plain_norm(x: torch.Tensor, eps: float) -> torch.Tensor:
    """Without weights."""
    mean = x.mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(((x - mean) ** 2).mean(-1, keepdim=True) + eps)


def gelu_tanh(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def next_scale_attention(
    weights: Weights, x: torch.Tensor, lengths: list[int], num_heads: int, *, normalized: bool
) -> torch.Tensor:
    """`(L, M) -> (L, M)`; `lengths` are the tokens of each scale."""
    length, width = x.shape
    per_head = width // num_heads
    w_q, w_k, w_v = weights["attn.mat_qkv.weight"].chunk(3)
    query, key, value = x @ w_q.T + weights["attn.q_bias"], x @ w_k.T, x @ w_v.T + weights["attn.v_bias"]
    level = [scale for scale, count in enumerate(lengths) for _ in range(count)]
    rows = []
    for i in range(length):
        seen = [j for j in range(length) if level[j] <= level[i]]
        heads = []
        for head in range(num_heads):
            part = slice(head * per_head, (head + 1) * per_head)
            q, factor = query[i, part], 0.25 / math.sqrt(per_head)
            keys = [key[j, part] for j in seen]
            if normalized:
                factor = torch.exp(torch.clamp(weights["attn.scale_mul_1H11"][0, head, 0, 0], max=math.log(100)))
                q, keys = q / q.norm(), [k / k.norm() for k in keys]
            scores = torch.stack([q @ k * factor for k in keys])
            shares = torch.exp(scores - scores.max())
            shares = shares / shares.sum()
            heads.append(sum(share * value[j, part] for share, j in zip(shares, seen, strict=True)))
        rows.append(torch.cat(heads))
    return torch.stack(rows) @ weights["attn.proj.weight"].T + weights["attn.proj.bias"]


def next_scale_block(
    weights: Weights,
    x: torch.Tensor,
    condition: torch.Tensor,
    lengths: list[int],
    num_heads: int,
    *,
    normalized: bool,
    eps: float,
) -> torch.Tensor:
    """`condition` is the class `(M,)`, or the shared modulation `(6, M)`."""
    if condition.ndim == 1:
        activated = condition / (1 + torch.exp(-condition))
        vectors = (weights["ada_lin.weight"] @ activated + weights["ada_lin.bias"]).unflatten(0, (6, -1))
    else:
        vectors = weights["ada_gss"][0, 0] + condition
    g1, g2, s1, s2, h1, h2 = vectors
    read = plain_norm(x, eps) * (1 + s1) + h1
    x = x + g1 * next_scale_attention(weights, read, lengths, num_heads, normalized=normalized)
    hidden = gelu_tanh((plain_norm(x, eps) * (1 + s2) + h2) @ weights["ffn.fc1.weight"].T + weights["ffn.fc1.bias"])
    return x + g2 * (hidden @ weights["ffn.fc2.weight"].T + weights["ffn.fc2.bias"])
