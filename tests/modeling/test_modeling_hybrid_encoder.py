# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The hybrid encoder against its slow twin, and what it promises about tile borders and padding."""

from typing import Any

import pytest
import torch

from fila import FilaVisionModel
from tests.helpers import assert_close, randomise, single_tower, tiny_config
from tests.modeling.geometry import GRIDS, encoder_inputs
from tests.reference.naive_hybrid_encoder import FusionTwin, naive_hybrid_encoder
from tests.reference.naive_mixture_of_resolution import naive_adapter, naive_final_align
from tests.reference.naive_patch_info_mining import naive_patch_info_mining

TAPS = [1, 2, 3, 4]
MINING = {"type": "patch_info_mining"}
CVFM = {"type": "cvfm", "taps": TAPS}
V2 = {"model_type": "convnextv2", "hidden_sizes": [5, 7, 11, 13], "depths": [1, 2, 1, 1]}

VARIANTS: dict[str, dict[str, Any]] = {
    "cvfm": {"fusion": CVFM},
    "cvfm-pool": {"fusion": CVFM | {"align": "pool"}},
    "cvfm-bilinear": {"fusion": CVFM | {"align": "bilinear"}},
    "cvfm-gate": {"fusion": CVFM | {"residual": "gate"}},
    "cvfm-bare": {"fusion": CVFM | {"residual": "none", "norm": False}},
    "cvfm-cls-mean": {"fusion": CVFM | {"cls": "mean"}},
    "cvfm-two-taps": {"fusion": {"type": "cvfm", "taps": [2, 4], "stages": [1, 3]}},
    "cvfm-one-layer-twice": {"fusion": {"type": "cvfm", "taps": [2, 2, 3], "hidden_size": 17}},
    "cvfm-encode-overview": {"fusion": CVFM, "high_res_overview": "encode"},
    "cvfm-convnextv2": {"fusion": CVFM, "high_res_vision_config": V2},
    "cvfm-last-layer": {"fusion": CVFM, "vision_feature_layer": -1},
    "channel-concat": {"fusion": {"type": "channel_concat"}},
    "channel-concat-stage-2": {"fusion": {"type": "channel_concat", "stage": 2, "align": "conv"}},
    "mixture-of-resolution": {"fusion": {"type": "mixture_of_resolution"}},
    "patch-info-mining": {"fusion": MINING},
    "patch-info-mining-interpolate": {"fusion": MINING, "high_res_overview": "interpolate"},
    "patch-info-mining-two-stages": {"fusion": MINING | {"stages": [2, 4]}},
    "none": single_tower(),
}


# `key` biases of the mining add the same to every cell of a window
UNSEEN = ("k_proj.bias", "mining.key.0.bias", "mining.key.1.bias")


def twin_of(model: FilaVisionModel) -> FusionTwin | None:
    """The slow fusion of a variant whose fusion the slow encoder does not have itself."""
    weights = dict(model.fusion.named_parameters())
    shape = model.fusion.taps, model.fusion.final_stages
    if model.config.fusion["type"] == "mixture_of_resolution":
        return FusionTwin(
            *shape,
            lambda tap, low, high: naive_adapter(weights, f"layers.{tap}", low, high, 4),
            lambda low, maps: naive_final_align(weights, "final", low, maps[0], 4),
        )
    if model.config.fusion["type"] == "patch_info_mining":
        return FusionTwin(
            *shape, lambda *never: never[1], lambda low, maps: naive_patch_info_mining(weights, low, maps[0], 4)
        )
    return None


def build(changes: dict[str, Any]) -> FilaVisionModel:
    model = FilaVisionModel(tiny_config(**changes)).double().eval()
    # larger weights saturate the tanh of LLaVA-HR's gates
    randomise(model, std=0.15 if model.config.fusion["type"] == "mixture_of_resolution" else 0.4)
    return model


@pytest.mark.parametrize("name", VARIANTS)
def test_hybrid_encoder_matches_its_slow_twin_in_output_and_every_gradient(name: str) -> None:
    model = build(VARIANTS[name])
    grids = GRIDS if name == "cvfm" else [(1, 2), (2, 2), (1, 1)]
    inputs = encoder_inputs(grids, high_res=model.high_res_tower is not None, dtype=torch.float64)
    weights = dict(model.named_parameters())

    actual = model(**inputs).last_hidden_state
    expected = naive_hybrid_encoder(model.config, weights, **inputs, twin=twin_of(model))
    # float64 on both sides; measured worst over all variants: output 1.1e-12, gradient 5.6e-14 of its norm
    assert_close(actual, expected, 1e-11)

    direction = torch.randn(actual.shape, generator=torch.Generator().manual_seed(1), dtype=actual.dtype)
    ours = torch.autograd.grad((actual * direction).sum(), list(weights.values()))
    theirs = torch.autograd.grad((expected * direction).sum(), list(weights.values()))
    for key, mine, reference in zip(weights, ours, theirs, strict=True):
        if key.endswith(UNSEEN):  # softmax does not see it: its gradient is zero but for rounding
            assert max(mine.abs().max(), reference.abs().max()) <= 1e-9
            continue
        assert reference.abs().max() > 0, f"the twin's gradient of {key} is zero: it would accept anything"
        difference = (mine - reference).norm() / reference.norm()
        assert difference <= 1e-12, f"gradient of {key} is off by {difference:.2e} of its norm"


def neighbour_effect(model: FilaVisionModel, changed: tuple[slice, slice], reader: int) -> float:
    """Largest change in view `reader` when pixels of the canvas (and of the tile that holds them) change."""
    inputs = encoder_inputs([(1, 2)], high_res=model.high_res_tower is not None, dtype=torch.float64)
    before = model(**inputs).last_hidden_state
    rows, cols = changed
    tile = 1 if cols.start < 28 else 2
    inputs["pixel_values"][0, tile, :, rows, slice(cols.start % 28, (cols.stop - 1) % 28 + 1)] += 1
    if model.high_res_tower is not None:
        scale = 128 / 28
        high_rows, high_cols = (slice(round(s.start * scale), round(s.stop * scale)) for s in (rows, cols))
        inputs["high_res_pixel_values"][0, :, high_rows, high_cols] += 1
    after = model(**inputs).last_hidden_state
    return (after - before)[reader].abs().max().item()


@pytest.mark.parametrize(
    ("changed", "reader"),
    [
        pytest.param((slice(10, 18), slice(24, 28)), 2, id="left-of-border-seen-by-right-tile"),
        pytest.param((slice(10, 18), slice(28, 32)), 1, id="right-of-border-seen-by-left-tile"),
    ],
)
def test_object_cut_by_a_tile_border_reaches_both_tiles_through_the_high_res_tower_only(
    changed: tuple[slice, slice], reader: int
) -> None:
    assert neighbour_effect(build({"fusion": CVFM}), changed, reader) > 1e-3
    assert neighbour_effect(build(single_tower()), changed, reader) == 0.0


def test_padding_is_never_encoded() -> None:
    model = build({"fusion": CVFM})
    inputs = encoder_inputs([(2, 2), (1, 2)], dtype=torch.float64)
    expected = model(**inputs).last_hidden_state
    inputs["pixel_values"][1, 3:] = float("nan")
    inputs["high_res_pixel_values"][1, :, 128:] = float("nan")
    assert torch.equal(model(**inputs).last_hidden_state, expected)


def test_image_features_do_not_depend_on_the_other_images_of_the_batch() -> None:
    model = build({"fusion": CVFM})
    together = encoder_inputs(GRIDS, dtype=torch.float64)
    expected = model(**together).last_hidden_state
    features = []
    for index in range(len(GRIDS)):
        features.append(
            model(**{name: value[index : index + 1] for name, value in together.items()}).last_hidden_state
        )
    assert_close(torch.cat(features), expected, 1e-12)


def test_lists_with_one_entry_per_image_equal_padded_tensors() -> None:
    model = build({"fusion": CVFM})
    inputs = encoder_inputs([(2, 2), (1, 1), (1, 3)], dtype=torch.float64)
    listed = {name: list(value) for name, value in inputs.items()}
    for index, count in enumerate([5, 1, 4]):
        height, width = inputs["high_res_sizes"][index].tolist()
        listed["pixel_values"][index] = listed["pixel_values"][index][:count]
        listed["view_boxes"][index] = listed["view_boxes"][index][:count]
        listed["high_res_pixel_values"][index] = listed["high_res_pixel_values"][index][:, :height, :width]
    assert_close(model(**listed).last_hidden_state, model(**inputs).last_hidden_state)


def test_fused_model_starts_as_the_low_res_tower_alone() -> None:
    torch.manual_seed(3)
    fused = FilaVisionModel(tiny_config(fusion=CVFM)).eval()
    alone = FilaVisionModel(tiny_config(**single_tower())).eval()
    alone.low_res_tower.load_state_dict(fused.low_res_tower.state_dict())
    inputs = encoder_inputs([(1, 2)])
    pixels = {name: inputs[name] for name in ("pixel_values", "view_boxes", "tile_grid")}
    assert_close(fused(**inputs).last_hidden_state, alone(**pixels).last_hidden_state)


def test_layers_and_stages_that_nothing_reads_do_not_exist() -> None:
    model = build({"fusion": {"type": "cvfm", "taps": [1, 2], "stages": [1, 2]}, "vision_feature_layer": 3})
    assert len(model.low_res_tower.encoder.layers) == 3
    assert not hasattr(model.low_res_tower, "post_layernorm")
    assert len(model.high_res_tower.encoder.stages) == 2
    output = model(**encoder_inputs([(1, 2)], dtype=torch.float64)).last_hidden_state
    unused = [
        name
        for (name, parameter), gradient in zip(
            model.named_parameters(),
            torch.autograd.grad(output.sum(), list(model.parameters()), allow_unused=True),
            strict=True,
        )
        if gradient is None
    ]
    assert unused == []


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("high_res_sizes", torch.tensor([[128, 128]]), r"canvas of image 0 must be 128x256 pixels .* says 128x128"),
        ("high_res_pixel_values", torch.zeros(1, 3, 128, 128), r"must be 128x256 pixels .* holds 128x128"),
        ("view_boxes", torch.zeros(1, 3, 4, dtype=torch.int64), r"Image 0 has no view"),
        ("high_res_pixel_values", None, r"needs `high_res_pixel_values` and `high_res_sizes`"),
    ],
)
def test_hybrid_encoder_rejects_inputs_that_contradict_each_other(name: str, change: Any, message: str) -> None:
    inputs = encoder_inputs([(1, 2)], dtype=torch.float64) | {name: change}
    with pytest.raises(ValueError, match=message):
        build({"fusion": CVFM})(**inputs)
