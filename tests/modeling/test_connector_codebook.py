# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest
import torch

from tests.helpers import assert_close
from tests.modeling.twins import assert_connector_equals, random_connector
from tests.reference.naive_layers import Weights, layer_norm, linear
from tests.reference.naive_quantizer import area, bicubic, nearest

SCALES = [(1, 1), (2, 2), (3, 3), (4, 4)]
OPTIONS = {"type": "codebook", "codebook_size": 13, "code_size": 6, "patch_nums": [1, 2, 3, 4]}


def naive_codebook(weights: Weights, x: torch.Tensor, rows: int, cols: int, count: int) -> torch.Tensor:
    """One view: `(P, D) -> (N, M)`, a scale and a cell at a time."""
    codes = weights["quantizer.embedding.weight"]
    reduced = layer_norm(linear(x[: rows * cols], weights, "reduce"), weights, "norm", 1e-5)
    f = area(reduced.T.unflatten(1, (rows, cols)), SCALES[-1])
    fhat, tokens = torch.zeros_like(f), []
    for scale, grid in enumerate(SCALES[:count]):
        z = area(f - fhat, grid).flatten(1).T
        ids = [nearest(vector.detach(), codes.detach(), cosine=False) for vector in z]
        read = torch.stack([codes[i] + z[n] - z[n].detach() for n, i in enumerate(ids)])
        tokens.append(linear(read, weights, "expand") + weights["scale_embedding"][scale])
        drawn = torch.stack([codes[i].detach() for i in ids], dim=1).unflatten(1, grid)
        fhat = fhat + (bicubic(drawn, SCALES[-1]) if grid != SCALES[-1] else drawn)
    return torch.cat(tokens)


@pytest.mark.parametrize("count", [1, 3, 4])
def test_codebook_equals_its_slow_twin(count: int) -> None:
    connector = random_connector(OPTIONS | {"num_scales": count}, 11, 10)
    features = torch.randn(2, 35, 11, dtype=torch.float64)
    # measured 4.5e-15
    assert_connector_equals(
        connector, lambda weights, x, view: naive_codebook(weights, x, 5, 7, count), features, (5, 7)
    )


def test_codebook_takes_views_of_any_shape_and_reads_no_padding() -> None:
    grids = [(2, 3), (5, 7), (4, 4)]
    connector = random_connector(OPTIONS, 11, 10)
    features = torch.randn(3, 35, 11, dtype=torch.float64)
    features[0, 6:] = 100.0
    features[2, 16:] = 100.0
    together = connector(features, torch.tensor(grids))
    for index, (rows, cols) in enumerate(grids):
        alone = connector(features[index : index + 1, : rows * cols], (rows, cols))
        assert_close(together[index].detach(), alone[0].detach(), 1e-12)


def test_first_scales_say_the_same_when_more_follow() -> None:
    features = torch.randn(2, 16, 11, dtype=torch.float64)
    whole = random_connector(OPTIONS, 11, 10)
    for count, tokens in ((1, 1), (2, 5), (3, 14)):
        part = random_connector(OPTIONS | {"num_scales": count}, 11, 10)
        state = whole.state_dict() | {"scale_embedding": whole.scale_embedding[:count]}
        part.load_state_dict(state)
        assert part.tokens_per_tile((4, 4)) == tokens
        assert_close(part(features, (4, 4)).detach(), whole(features, (4, 4))[:, :tokens].detach(), 1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_scales": 5}, r"`connector.num_scales` must be one of the 1 to 4 first scales; got 5"),
        ({"patch_nums": [0]}, r"`patch_nums` must name at least one scale, with positive sides; got \[0\]"),
    ],
)
def test_codebook_rejects(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        random_connector(OPTIONS | options, 11, 10)


def test_no_statistics_are_kept() -> None:
    connector = random_connector(OPTIONS, 11, 10)
    assert not list(connector.buffers())
    with pytest.raises(ValueError, match=r"built with `count_hits=False`"):
        connector.quantizer.usage(10)
