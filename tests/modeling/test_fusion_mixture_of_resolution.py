# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest
import torch

from fila.modeling.fusion import build_fusion
from tests.modeling.twins import GRID, LAYOUT, assert_same, config, random_fusion, random_inputs
from tests.reference.naive_mixture_of_resolution import naive_adapter, naive_final_align

OPTIONS = {"type": "mixture_of_resolution", "taps": [2, 5]}


@pytest.mark.parametrize("cells", [3, GRID, 2 * GRID], ids=["up", "equal", "down"])
@pytest.mark.parametrize("prefix", [1, 2])
def test_adapter_equals_its_slow_twin(cells: int, prefix: int) -> None:
    settings = config(OPTIONS, cells=cells, width=11)
    fusion = random_fusion(settings)
    low, maps = random_inputs(fusion, settings, prefix=prefix)
    for tap in range(2):
        weights = dict(fusion.layers[tap].named_parameters(prefix="tap"))
        actual = fusion.fuse(tap, low, maps[tap])
        expected = torch.stack(
            [naive_adapter(weights, "tap", view, high, GRID) for view, high in zip(low, maps[tap], strict=True)]
        )
        assert_same(actual, expected, weights | {"low": low, "high": maps[tap]}, tolerance=1e-11)


@pytest.mark.parametrize("cells", [3, GRID, 2 * GRID], ids=["up", "equal", "down"])
def test_final_align_equals_its_slow_twin(cells: int) -> None:
    settings = config(OPTIONS, cells=cells, width=11)
    fusion = random_fusion(settings)
    low, maps = random_inputs(fusion, settings)
    weights = dict(fusion.final.named_parameters(prefix="final"))
    actual = fusion.finish(low, tuple(maps), LAYOUT)
    pairs = zip(low, maps[0], strict=True)
    expected = torch.stack([naive_final_align(weights, "final", view, high, GRID) for view, high in pairs])
    assert_same(actual, expected, weights | {"low": low, "high": maps[0]}, tolerance=1e-11)


def test_adapters_stand_after_each_quarter_of_the_layers_but_the_last() -> None:
    fusion = build_fusion(config({"type": "mixture_of_resolution"}, layers=24))
    assert fusion.taps == ((6, 4), (12, 4), (18, 4))
    assert fusion.final_stages == ((4,),)


def test_adapter_starts_as_the_identity() -> None:
    from fila import FilaVisionModel
    from tests.helpers import tiny_config

    fusion = FilaVisionModel(tiny_config(fusion={"type": "mixture_of_resolution"})).fusion
    low = torch.randn(2, 17, 20)
    assert torch.equal(fusion.fuse(0, low, torch.randn(2, 13, 4, 4)), low)


def test_first_training_stage_of_llava_hr_has_no_adapters() -> None:
    fusion = build_fusion(config({"type": "mixture_of_resolution", "taps": []}))
    assert fusion.taps == ()
    assert {name.split(".")[0] for name, _ in fusion.named_parameters()} == {"final"}


@pytest.mark.parametrize(
    ("options", "cells", "message"),
    [
        ({"taps": "8"}, 5, r"`fusion.taps` must be a list of whole numbers, counted from 1; got '8'"),
        ({"taps": [8]}, 5, r"`fusion.taps` must be increasing layers of the low-res tower, 1\.\.6; got \[8\]"),
        ({"taps": [], "final": False}, 5, r"`fusion.taps` is empty and `fusion.final` false"),
        ({}, 7, r"a view's 7x7 cells of the last stage must be a multiple of its 5x5 patches"),
    ],
)
def test_mixture_of_resolution_rejects(options: dict[str, object], cells: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_fusion(config({"type": "mixture_of_resolution"} | options, cells=cells))
