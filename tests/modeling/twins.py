# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Compares a part with its slow twin, in output and in the gradient of every weight and input.

In float64; measured 4e-15 of the largest output and 1.2e-14 of a gradient's norm where nothing is float32 by design.
"""

from collections.abc import Callable
from typing import Any

import torch

from fila import FilaConfig
from fila.modeling.connector import build_connector
from fila.modeling.fusion import build_fusion
from fila.modeling.view_layout import ViewLayout
from tests.helpers import assert_close, randomise

GRID = 5  # patches per side of a view
WIDTH = 12  # of the low-res tower: positions need a multiple of 4
HEADS = 3
HIGH_WIDTHS = [5, 7, 11, 13]
NUM_VIEWS = (3, 1, 4)  # an overview and two tiles, a single view, an overview and three tiles
TILE_GRIDS = ((1, 2), (1, 1), (3, 1))
LAYOUT = ViewLayout(NUM_VIEWS, TILE_GRIDS)


def config(
    fusion: dict[str, Any], *, cells: int = GRID, width: int = WIDTH, layers: int = 7, **changes: Any
) -> FilaConfig:
    """A config whose last high-res stage has `cells` x `cells` cells per view."""
    settings: dict[str, Any] = {
        "vision_config": {
            "model_type": "clip_vision_model",
            "hidden_size": width,
            "intermediate_size": 17,
            "num_hidden_layers": layers,
            "num_attention_heads": 1 if width % HEADS else HEADS,
            "image_size": 7 * GRID,
            "patch_size": 7,
        },
        "high_res_vision_config": {"model_type": "convnext", "hidden_sizes": HIGH_WIDTHS, "depths": [1, 1, 1, 1]},
        "high_res_tile_size": 32 * cells,
        "fusion": fusion,
    }
    return FilaConfig(**(settings | changes))


def text_of_width(width: int) -> dict[str, Any]:
    """A language model's config; only its width is read."""
    return {"model_type": "llama", "hidden_size": width, "num_attention_heads": 1, "head_dim": 2}


def random_fusion(settings: FilaConfig) -> Any:
    """The fusion in float64 with random weights."""
    fusion = build_fusion(settings).double()
    randomise(fusion, std=0.4)
    return fusion


def random_inputs(fusion: Any, settings: FilaConfig, *, prefix: int = 0) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Low-res tokens and one map per group of final stages (or per tap), for all views of the layout."""
    generator = torch.Generator().manual_seed(7)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()

    views, low_width = sum(NUM_VIEWS), settings.vision_config.hidden_size
    groups = fusion.final_stages if prefix == 0 else [(stage,) for _, stage in fusion.taps]
    maps = []
    for group in groups:
        side = settings.high_res_tile_size // 4 // 2 ** (group[0] - 1)
        maps.append(draw(views, sum(HIGH_WIDTHS[stage - 1] for stage in group), side, side))
    return draw(views, prefix + GRID * GRID, low_width), maps


def assert_same(
    actual: torch.Tensor,
    expected: torch.Tensor,
    inputs: dict[str, torch.Tensor],
    *,
    tolerance: float,
    unseen: Any = (),
) -> None:
    """Equal outputs, and equal gradients by every input, of a random direction.

    Args:
        actual: Of the part.
        expected: Of the twin.
        inputs: Weights and inputs by name.
        tolerance: Share of the largest value that may differ.
        unseen: Ends of the names of weights whose gradient is zero but for rounding.
    """
    assert_close(actual, expected, tolerance * float(expected.detach().abs().max()))
    direction = torch.randn(actual.shape, generator=torch.Generator().manual_seed(1), dtype=actual.dtype)
    ours = torch.autograd.grad((actual * direction).sum(), list(inputs.values()))
    theirs = torch.autograd.grad((expected * direction).sum(), list(inputs.values()))
    for name, mine, reference in zip(inputs, ours, theirs, strict=True):
        if name.endswith(tuple(unseen)):
            assert max(mine.abs().max(), reference.abs().max()) <= 1e-9, name
            continue
        assert reference.abs().max() > 0, f"the twin's gradient of {name} is zero: it would accept anything"
        difference = float((mine - reference).norm() / reference.norm())
        assert difference <= tolerance, f"gradient of {name} is off by {difference:.2e} of its norm"


def assert_end_fusion_equals(
    settings: FilaConfig, twin: Callable[..., torch.Tensor], *, tolerance: float = 1e-11, unseen: Any = ()
) -> None:
    """Compare a fusion's `finish` with `twin(weights, low (P, D), [map (E, s, s)], side)`, view by view."""
    fusion = random_fusion(settings)
    low, maps = random_inputs(fusion, settings)
    weights = dict(fusion.named_parameters())
    actual = fusion.finish(low, tuple(maps), LAYOUT)
    views = range(len(low))
    expected = torch.stack([twin(weights, low[view], [x[view] for x in maps], GRID) for view in views])
    inputs = weights | {"low": low} | {f"map {index}": x for index, x in enumerate(maps)}
    assert_same(actual, expected, inputs, tolerance=tolerance, unseen=unseen)


def random_connector(options: dict[str, Any], input_size: int, width: int) -> Any:
    """The connector in float64 with random weights."""
    settings = config({"type": "channel_concat"}, connector=options, text_config=text_of_width(width))
    connector = build_connector(settings, input_size).double()
    randomise(connector, std=0.4)
    return connector


def assert_connector_equals(
    connector: Any,
    twin: Callable[..., torch.Tensor],
    features: torch.Tensor,
    grid: Any,
    *,
    tolerance: float = 1e-11,
    unseen: Any = (),
) -> None:
    """Compare a connector with `twin(weights, features (P, D), view)`, view by view."""
    weights = dict(connector.named_parameters())
    features.requires_grad_()
    expected = torch.stack([twin(weights, view, index) for index, view in enumerate(features)])
    actual = connector(features, grid)
    assert_same(actual, expected, weights | {"features": features}, tolerance=tolerance, unseen=unseen)
