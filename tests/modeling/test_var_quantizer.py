# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest
import torch
import torch.distributed as dist

from fila.modeling.var_quantizer import (
    FilaMultiScaleQuantizer,
    nearest_codes,
    phi_index,
    scale_grids,
)
from tests.helpers import assert_close, randomise
from tests.modeling.twins import assert_same
from tests.reference.naive_quantizer import naive_quantize

SCALES = [1, 2, (3, 2), (5, 7)]
GRIDS = [(1, 1), (2, 2), (3, 2), (5, 7)]


def quantizer(**changes: object) -> FilaMultiScaleQuantizer:
    settings: dict[str, object] = {"codebook_size": 17, "code_size": 3, "patch_nums": SCALES, "num_phis": 2}
    built = FilaMultiScaleQuantizer(**(settings | changes)).double()  # type: ignore[arg-type]
    randomise(built, std=0.7)
    return built


def features(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, 5, 7, dtype=torch.float64)


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("num_phis", [1, 2, 4])
def test_quantizer_equals_its_slow_twin_in_output_and_gradients(cosine: bool, num_phis: int) -> None:
    ours = quantizer(num_phis=num_phis, normalize_codes=cosine, commitment=0.3, phi_ratio=-0.4)
    f = features().requires_grad_()
    weights = dict(ours.named_parameters())
    phis = [phi_index(scale, 4, num_phis) for scale in range(4)]
    twins = [naive_quantize(weights, x, GRIDS, phis, ratio=0.4, beta=0.3, cosine=cosine) for x in f]
    result = ours(f)
    assert [ids.tolist() for ids in result.ids] == [[twin[0][k] for twin in twins] for k in range(4)]
    ids, maps = ours.encode(f)
    assert all(torch.equal(one, other) for one, other in zip(ids, result.ids, strict=True))
    for k in range(4):
        assert_close(maps[k], torch.stack([twin[1][k] for twin in twins]).detach(), 1e-12)
    assert_close(result.features.detach(), maps[-1], 1e-12)
    loss = sum(twin[2] for twin in twins) / len(twins)
    inputs = weights | {"f": f}
    # measured 5.2e-15
    assert_same(result.loss[None], loss[None], inputs, tolerance=1e-12)


def test_gradient_passes_the_codes_as_it_is() -> None:
    ours, f = quantizer(), features().requires_grad_()
    direction = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    grads = torch.autograd.grad(
        (ours(f).features * direction).sum(), [f, *ours.parameters()], allow_unused=True, materialize_grads=True
    )
    assert torch.equal(grads[0], direction)
    assert not any(grad.any() for grad in grads[1:])


def test_ids_decode_to_what_was_encoded_from_any_prefix_of_scales() -> None:
    ours = quantizer()
    ids, maps = ours.encode(features())
    for count in range(1, 5):
        decoded = ours.decode(ids[:count])
        assert len(decoded) == count
        assert_close(decoded[-1], maps[count - 1], 1e-12)
    few, few_maps = ours.encode(features(1), num_scales=2)
    assert [len(few), len(few_maps)] == [2, 2]


def test_steps_of_generation_give_what_the_predictor_was_trained_on() -> None:
    ours = quantizer()
    ids, maps = ours.encode(features())
    fhat, read = None, []
    for scale, (found, grid) in enumerate(zip(ids, GRIDS, strict=True)):
        codes = ours.embedding(found).transpose(1, 2).unflatten(2, grid)
        fhat, following = ours.next_scale_input(scale, fhat, codes)
        assert_close(fhat.detach(), maps[scale], 1e-12)
        read.append(following.flatten(2).transpose(1, 2))
    assert_close(torch.cat(read[:-1], dim=1), ours.next_scale_inputs(ids), 1e-12)
    assert torch.equal(following, fhat)


def test_one_scale_alone_is_plain_quantisation() -> None:
    ours = quantizer(patch_nums=[(5, 7)], phi_ratio=0.0)
    f = features()
    ids, maps = ours.encode(f)
    distances = torch.cdist(f.permute(0, 2, 3, 1).reshape(-1, 3), ours.embedding.weight.detach())
    assert torch.equal(ids[0].flatten(), distances.argmin(1))
    assert torch.equal(maps[0].permute(0, 2, 3, 1).reshape(-1, 3), ours.embedding.weight[ids[0].flatten()].detach())
    assert ours.next_scale_inputs(ids).shape == (2, 0, 3)


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("max_scores", [1, 50, 170, 10**6])
def test_chunks_find_what_one_product_finds(cosine: bool, max_scores: int) -> None:
    vectors, codes = torch.randn(31, 5), torch.randn(17, 5)
    whole = nearest_codes(vectors, codes, cosine=cosine)
    assert torch.equal(nearest_codes(vectors, codes, cosine=cosine, max_scores=max_scores), whole)
    unit = torch.nn.functional.normalize
    wanted = (unit(vectors) @ unit(codes).T).argmax(1) if cosine else torch.cdist(vectors, codes).argmin(1)
    assert torch.equal(whole, wanted)


def test_first_of_equal_codes_is_taken_and_no_vectors_give_no_ids() -> None:
    codes = torch.tensor([[1.0, 2.0], [3.0, 4.0], [3.0, 4.0]])
    assert nearest_codes(torch.tensor([[3.0, 4.0]]), codes).tolist() == [1]
    assert nearest_codes(torch.empty(0, 2), codes).shape == (0,)


def test_half_precision_is_looked_up_in_single() -> None:
    codes = torch.arange(300, dtype=torch.bfloat16)[:, None]
    assert nearest_codes(torch.tensor([[250.0]], dtype=torch.bfloat16), codes).tolist() == [250]
    ours = quantizer().bfloat16()
    result = ours(features().bfloat16())
    assert result.features.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("num_scales", "num_phis", "expected"),
    [
        (10, 4, [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]),
        (3, 4, [0, 2, 3]),
        (7, 4, [0, 0, 1, 2, 2, 3, 3]),
        (14, 4, [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3]),
        (5, 1, [0] * 5),
        (5, 5, [0, 1, 2, 3, 4]),
    ],
)
def test_phis_are_shared_as_in_the_source(num_scales: int, num_phis: int, expected: list[int]) -> None:
    assert [phi_index(scale, num_scales, num_phis) for scale in range(num_scales)] == expected


def test_hits_are_counted_in_training_only_and_survive_a_checkpoint() -> None:
    ours, f = quantizer(), features()
    ours.eval()(f)
    assert not ours.code_hits.any()
    ours.train()(f)
    ids = ours.encode(f)[0]
    assert_close(ours.code_hits[0], ids[0].flatten().bincount(minlength=17).double(), 0)
    assert_close(ours.code_hits[3], 0.1 * ids[3].flatten().bincount(minlength=17), 1e-6)
    assert int(ours.hit_updates) == 4
    again = quantizer()
    again.load_state_dict(ours.state_dict())
    assert_close(again.train()(f).loss, ours.train()(f).loss)
    assert torch.equal(again.code_hits, ours.code_hits)


def test_hits_of_all_processes_are_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    alone, together, f = quantizer(), quantizer(), features()
    alone.train()(f)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 3)
    monkeypatch.setattr(dist, "all_reduce", lambda hits: hits.mul_(3))  # three processes with the same images
    together.train()(f)
    assert_close(together.code_hits, 3 * alone.code_hits, 1e-6)
    alike = together.usage(70)
    monkeypatch.undo()
    assert torch.equal(alone.usage(70), alike)


def test_usage_is_the_share_of_codes_above_the_threshold() -> None:
    ours = quantizer()
    ours.code_hits[2, :5] = 0.08 * 70 / 17
    assert_close(ours.usage(70), torch.tensor([0, 0, 5 / 17, 0]), 1e-6)


def test_autocast_does_not_reach_the_quantizer() -> None:
    ours, f = quantizer().float(), features().float()
    plain = ours(f)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ours(f).loss, plain.loss)
        assert torch.equal(ours.encode(f)[0][-1], plain.ids[-1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: scale_grids([]), r"at least one scale, with positive sides; got \[\]"),
        (lambda: scale_grids([1, 0]), r"positive sides; got \[1, 0\]"),
        (lambda: quantizer(codebook_size=0), r"`codebook_size` must be at least 1; got 0"),
        (
            lambda: quantizer().encode(torch.zeros(1, 3, 5, 6)),
            r"the map is \(5, 6\) and `patch_nums` ends in \(5, 7\)",
        ),
        (lambda: quantizer().decode([]), r"ids of 1 to 4 scales; got 0"),
        (
            lambda: quantizer().decode([torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 5, dtype=torch.long)]),
            r"Scale 1 has 2x2 patches, so its ids must be \(images, 4\); got \(1, 5\)",
        ),
    ],
)
def test_quantizer_rejects(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
