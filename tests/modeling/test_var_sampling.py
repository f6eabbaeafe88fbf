# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest
import torch

from fila.modeling.var_sampling import filtered_logits

LOGITS = torch.tensor([[0.5, 0.25, 0.15, 0.1]]).log()


def kept(**options: object) -> list[int]:
    return filtered_logits(LOGITS, **options)[0].isfinite().nonzero().flatten().tolist()  # type: ignore[arg-type]


def test_filter_keeps_what_it_says() -> None:
    assert kept() == [0, 1, 2, 3]
    assert kept(top_k=2) == [0, 1]
    assert kept(top_k=9) == [0, 1, 2, 3]
    assert kept(top_p=0.8) == [0, 1, 2]  # 0.1 is not more than 0.2, 0.1 + 0.15 is
    assert kept(top_p=0.01) == [0]
    assert kept(top_k=2, top_p=0.6) == [0]  # of the shares among two


def test_equal_logits_stay_together_and_the_input_is_not_changed() -> None:
    even = torch.zeros(1, 5)
    assert filtered_logits(even, top_k=2).isfinite().all()
    filtered_logits(even, top_p=0.5).fill_(1)
    filtered_logits(even).fill_(1)
    assert not even.any()


@pytest.mark.parametrize("options", [{"top_p": 1.5}, {"top_k": -1}])
def test_filter_rejects(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"`top_p` must lie in 0..1 and `top_k` must not be negative"):
        filtered_logits(LOGITS, **options)  # type: ignore[arg-type]
