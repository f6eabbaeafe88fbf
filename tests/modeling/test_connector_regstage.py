# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest
import torch

from fila.modeling.connector_regstage import RegStage
from tests.helpers import randomise
from tests.modeling.twins import assert_same
from tests.reference.naive_video_connectors import cells_of, naive_reg_stage


@pytest.mark.parametrize(("input_size", "depth"), [(9, 2), (7, 1), (7, 0)])
def test_stage_equals_its_slow_twin(input_size: int, depth: int) -> None:
    stage = RegStage(input_size, 7, depth).double()
    randomise(stage, std=0.4)
    features = torch.randn(15, input_size, dtype=torch.float64, requires_grad=True)
    weights = {f"s1.{name}": weight for name, weight in stage.named_parameters()}
    cells = naive_reg_stage(weights, "s1", cells_of(features, 3), depth)
    expected = torch.stack([cells[place] for place in sorted(cells)])
    actual = stage(features.T.unflatten(1, (5, 3))[None])[0].flatten(1).T
    assert_same(actual, expected, weights | {"features": features}, tolerance=1e-11)


def test_gate_has_a_quarter_of_the_input_width() -> None:
    stage = RegStage(16, 24, 2)
    widths = [stage.get_submodule(f"b{number}.se.fc1").out_channels for number in (1, 2)]
    assert widths == [4, 6]


def test_norms_have_the_source_eps() -> None:
    assert {module.eps for module in RegStage(16, 24, 1).modules() if isinstance(module, torch.nn.LayerNorm)} == {1e-5}
