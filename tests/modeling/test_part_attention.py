# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest
import torch

from fila.modeling.part_attention import CrossAttention, PackedAttention, check_heads
from tests.helpers import assert_close, randomise


def test_packed_attention_is_torchs_with_torchs_names() -> None:
    ours = PackedAttention(12, 3).double()
    theirs = torch.nn.MultiheadAttention(12, 3, batch_first=True).double()
    randomise(ours)
    theirs.load_state_dict(ours.state_dict())
    query, key, value = (torch.randn(2, count, 12, dtype=torch.float64) for count in (5, 7, 7))
    mask = torch.tensor([[True] * 7, [True] * 3 + [False] * 4])
    expected = theirs(query, key, value, key_padding_mask=~mask, need_weights=False)[0]
    assert_close(ours(query, key, value, mask), expected, 1e-12)


def test_masked_keys_are_not_read() -> None:
    attention = CrossAttention(12, 3, key_size=5).double()
    randomise(attention)
    query, tokens = torch.randn(1, 2, 12, dtype=torch.float64), torch.randn(1, 7, 5, dtype=torch.float64)
    mask = torch.arange(7)[None] < 4
    assert_close(attention(query, tokens, tokens, mask), attention(query, tokens[:, :4], tokens[:, :4]), 1e-12)


@pytest.mark.parametrize("heads", [0, 5])
def test_heads_must_divide_the_width(heads: int) -> None:
    with pytest.raises(ValueError, match=rf"`connector.num_heads` must divide the width 12; got {heads}"):
        check_heads("connector.num_heads", heads, 12)
