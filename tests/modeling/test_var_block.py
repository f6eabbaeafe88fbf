# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest
import torch
from transformers.cache_utils import DynamicCache

from fila.modeling.var_block import NextScaleBlock
from tests.helpers import assert_close, randomise
from tests.modeling.tiny_var import tiny_var_config
from tests.modeling.twins import assert_same
from tests.reference.naive_next_scale import next_scale_block

LENGTHS = [1, 4, 6]
WIDTH, HEADS = 12, 3


def block(**changes: object) -> NextScaleBlock:
    config = tiny_var_config(hidden_size=WIDTH, num_attention_heads=HEADS, **changes)
    built = NextScaleBlock(config, 1).double().eval()
    randomise(built, std=0.6)
    return built


def levels() -> torch.Tensor:
    return torch.arange(3).repeat_interleave(torch.tensor(LENGTHS))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("normalized", [False, True])
def test_block_equals_its_slow_twin_in_output_and_gradients(shared: bool, normalized: bool) -> None:
    ours = block(shared_adaln=shared, normalize_attention=normalized)
    x = torch.randn(2, 11, WIDTH, dtype=torch.float64, requires_grad=True)
    condition = torch.randn(2, *((1, 6) if shared else ()), WIDTH, dtype=torch.float64, requires_grad=True)
    weights = dict(ours.named_parameters())
    actual = ours(x, condition, levels()[:, None] >= levels(), None)
    expected = torch.stack(
        [
            next_scale_block(
                weights,
                x[i],
                condition[i, 0] if shared else condition[i],
                LENGTHS,
                HEADS,
                normalized=normalized,
                eps=1e-6,
            )
            for i in range(2)
        ]
    )
    # measured 9.4e-16 of the largest output, 1.1e-14 of a gradient's norm
    assert_same(actual, expected, weights | {"x": x, "condition": condition}, tolerance=1e-11)


def test_cache_equals_the_mask() -> None:
    ours = block()
    x, condition = torch.randn(2, 11, WIDTH, dtype=torch.float64), torch.randn(2, WIDTH, dtype=torch.float64)
    whole = ours(x, condition, levels()[:, None] >= levels(), None)
    ours.attn.index = 0  # the cache begins with this block
    cache = DynamicCache()
    parts = [ours(part, condition, None, cache) for part in x.split(LENGTHS, dim=1)]
    assert_close(torch.cat(parts, dim=1).detach(), whole.detach(), 1e-12)


def test_scale_of_a_head_has_a_limit() -> None:
    ours = block()
    x, condition = torch.randn(1, 11, WIDTH, dtype=torch.float64), torch.randn(1, WIDTH, dtype=torch.float64)
    with torch.no_grad():
        ours.attn.scale_mul_1H11.fill_(torch.log(torch.tensor(100.0)))
        limit = ours(x, condition, None, None)
        ours.attn.scale_mul_1H11.fill_(9.0)
        assert_close(ours(x, condition, None, None), limit, 1e-5)


def test_updates_are_left_out_in_training_only() -> None:
    ours = block(drop_path_rate=0.9)
    x, condition = torch.randn(64, 2, WIDTH, dtype=torch.float64), torch.randn(64, WIDTH, dtype=torch.float64)
    whole = ours(x, condition, None, None)
    trained = ours.train()(x, condition, None, None)
    untouched = (trained == x).flatten(1).all(1).float().mean()
    assert 0.05 < float(untouched) < 0.4  # both updates left out: 0.45 ^ 2 = 0.2 of the samples
    assert not (whole == x).flatten(1).all(1).any()
