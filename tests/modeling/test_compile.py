# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""`torch.compile` of the whole model: few graphs over many sizes of images, and the numbers of the plain model."""

from typing import Any

import pytest
import torch

from fila import FilaModel, FilaVisionModel
from tests.helpers import assert_close, random_image, tiny_config, tiny_model, tiny_processor
from tests.modeling.text_families import tiny_family

# dynamo asks every tensor for its gradient and hides the warning, which pytest turns into an error before that
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")

SIZES = [(20, 50), (61, 17), (90, 91), (28, 28), (120, 40), (40, 120), (56, 84), (200, 90)]
ONE_LAYER = {"text_config": tiny_config().text_config.to_dict() | {"num_hidden_layers": 1}}


def batch(height: int, width: int) -> dict[str, Any]:
    inputs = tiny_processor()(text="<image> a", images=random_image(height, width), return_tensors="pt")
    return dict(inputs) | {"labels": inputs["input_ids"]}


def gradients(model: torch.nn.Module, batch: dict[str, Any]) -> list[torch.Tensor]:
    loss = model(**batch).loss
    return [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]


def test_training_on_eight_sizes_of_images_makes_at_most_six_graphs() -> None:
    model, graphs = tiny_model(**ONE_LAYER).train(), []

    def count(graph: torch.fx.GraphModule, example: list[torch.Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(model, backend=count)
    for size in SIZES:
        given = batch(*size)
        for actual, expected in zip(gradients(compiled, given), gradients(model, given), strict=True):
            assert_close(actual, expected, 1e-5)  # measured: 5e-7
    assert 1 <= len(graphs) <= 6


# torch's own, on importing inductor
@pytest.mark.slow  # needs a C++ compiler, which `make test` does without
@pytest.mark.filterwarnings("ignore:`torch.jit.* is deprecated:DeprecationWarning")
def test_inductor_gives_the_numbers_of_the_plain_model() -> None:
    model, given = tiny_model(**ONE_LAYER), batch(20, 50)
    torch._dynamo.reset()
    for actual, expected in zip(gradients(torch.compile(model), given), gradients(model, given), strict=True):
        assert_close(actual, expected, 1e-4)  # measured: 1e-6


@pytest.mark.parametrize(("family", "answer"), [("llama", True), ("jetmoe", False)])
def test_model_can_be_one_graph_if_its_language_model_can(family: str, answer: bool) -> None:
    model = tiny_family(family)
    assert (model._can_compile_fullgraph, model.model._can_compile_fullgraph) == (answer, answer)
    assert not FilaVisionModel._can_compile_fullgraph
    assert not FilaModel._can_compile_fullgraph
