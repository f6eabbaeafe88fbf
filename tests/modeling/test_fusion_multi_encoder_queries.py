# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest
import torch

from fila.modeling.fusion import build_fusion
from tests.modeling.twins import GRID, LAYOUT, assert_end_fusion_equals, config, random_fusion, random_inputs
from tests.reference.naive_end_fusions import naive_multi_encoder_queries

OPTIONS = {
    "type": "multi_encoder_queries",
    "num_queries": 3,
    "hidden_size": 10,
    "key_size": 7,
    "num_layers": 3,
    "num_heads": 5,
}


@pytest.mark.parametrize("stages", [[4], [3, 4]], ids=str)
def test_multi_encoder_queries_equal_their_slow_twin(stages: list[int]) -> None:
    settings = config(OPTIONS | {"stages": stages}, cells=2, width=13)
    assert_end_fusion_equals(settings, lambda *args: naive_multi_encoder_queries(*args, 5, 3), tolerance=1e-10)


def test_sizes_are_the_papers_by_default() -> None:
    with torch.device("meta"):
        fusion = build_fusion(config({"type": "multi_encoder_queries"}))
    assert fusion.output_grid == (1, 64)  # 32 per encoder
    assert fusion.output_size == 768
    assert [layer.cross_attention is not None for layer in fusion.reader.layers] == [True, False] * 6
    assert fusion.project[0].out_features == 1408


def test_hidden_encoders_are_not_read_and_one_is_always_left() -> None:
    settings = config(OPTIONS | {"encoder_dropout": 0.9})
    fusion = random_fusion(settings).train()
    low, maps = random_inputs(fusion, settings)
    many = low[:1].detach().expand(200, -1, -1)
    mask = fusion._mask([GRID**2, GRID**2], many)
    shown = mask.unflatten(1, (2, GRID**2))
    assert torch.equal(shown.all(-1), shown.any(-1))
    assert shown.any(-1).any(-1).all()
    assert 0 < shown.all(-1).all(-1).sum() < 20
    torch.manual_seed(1)
    hidden = ~fusion._mask([GRID**2, GRID**2], low).unflatten(1, (2, -1))[:, 1].all(-1)
    assert hidden.any()
    torch.manual_seed(1)
    before = fusion.finish(low, tuple(maps), LAYOUT)
    torch.manual_seed(1)
    after = fusion.finish(low, (maps[0] + 1,), LAYOUT)
    assert torch.equal((before == after).flatten(1).all(-1), hidden)
    fusion.eval()  # nothing is hidden
    assert (before != fusion.finish(low, tuple(maps), LAYOUT)).flatten(1).any(-1)[hidden].all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_queries": 0}, r"`fusion.num_queries` must be at least 1; got 0"),
        ({"num_heads": 3}, r"`fusion.num_heads` must divide the width 10; got 3"),
        ({"encoder_dropout": 1.0}, r"`fusion.encoder_dropout` must be in \[0, 1\); got 1.0"),
    ],
)
def test_multi_encoder_queries_reject(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_fusion(config(OPTIONS | options))
