# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import pytest
import torch

from fila.training.stages import STAGES, select_trained, set_geometry
from tests.helpers import random_image, single_tower, tiny_model, tiny_processor


def test_align_trains_fusion_and_connector_only() -> None:
    model = tiny_model(fusion={"type": "cvfm", "taps": [2], "align": "pool"})
    fusion = [f"model.vision_tower.fusion.layers.0.{part}" for part in (
        "norm_low.weight", "norm_low.bias", "norm_high.weight", "norm_high.bias",
        "fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias",
    )]  # fmt: skip
    connector = [f"model.multi_modal_projector.linear_{i}.{part}" for i in (1, 2) for part in ("weight", "bias")]
    assert select_trained(model, "align") == fusion + connector
    assert [name for name, p in model.named_parameters() if p.requires_grad] == fusion + connector


def test_align_trains_the_connectors_of_streams() -> None:
    model = tiny_model(injection={"type": "streams", "streams": [{"tap": 1, "before": 0}]})
    trained = select_trained(model, "align")
    assert [name for name in trained if "injection" in name] == [
        f"model.injection.connectors.0.linear_{i}.{part}" for i in (1, 2) for part in ("weight", "bias")
    ]


def test_finetune_trains_everything_after_align_froze_it() -> None:
    model = tiny_model()
    select_trained(model, "align")
    assert select_trained(model, "finetune") == [name for name, _ in model.named_parameters()]


def test_a_single_tower_aligns_its_connector() -> None:
    trained = select_trained(tiny_model(**single_tower()), "align")
    assert {name.split(".")[1] for name in trained} == {"multi_modal_projector"}


@pytest.mark.parametrize("stage", STAGES)
def test_stage_geometry_runs_and_only_trained_parameters_get_gradients(stage: str) -> None:
    model = tiny_model().train()
    trained = select_trained(model, stage)
    processor = tiny_processor(**STAGES[stage].image_processor)
    batch = processor(text=["<image> a"], images=[[random_image(20, 50)]], return_tensors="pt")
    assert batch["tile_grid"].tolist() == {"align": [[1, 1]], "finetune": [[1, 2]]}[stage]
    model(**batch, labels=batch["input_ids"]).loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is not None] == trained


def test_unknown_stage_and_a_model_without_the_parts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be one of \['align', 'finetune'\]; got 'stage1'"):
        select_trained(tiny_model(), "stage1")
    with pytest.raises(ValueError, match="Linear has no such parameter"):
        select_trained(torch.nn.Linear(2, 3), "align")


def test_align_trains_exactly_these_at_four_taps() -> None:
    halvings = (3, 2, 1, 0)  # 2x2 convolutions that bring each stage's square to the patch grid
    fusion = set()
    for tap, count in enumerate(halvings):
        fusion |= {f"layers.{tap}.align.convs.{i}.{p}" for i in range(count) for p in ("weight", "bias")}
        fusion |= {
            f"layers.{tap}.{m}.{p}" for m in ("norm_low", "norm_high", "fc1", "fc2") for p in ("weight", "bias")
        }
    connector = {f"model.multi_modal_projector.linear_{i}.{p}" for i in (1, 2) for p in ("weight", "bias")}
    trained = select_trained(tiny_model(), "align")
    assert set(trained) == {f"model.vision_tower.fusion.{name}" for name in fusion} | connector
    assert len(trained) == len(set(trained))


def test_a_refused_stage_changes_nothing() -> None:
    linear = torch.nn.Linear(2, 3)
    with pytest.raises(ValueError, match="no such parameter"):
        select_trained(linear, "align")
    assert all(parameter.requires_grad for parameter in linear.parameters())


@pytest.mark.parametrize("stage", STAGES)
def test_geometry_is_set_and_a_canvas_of_the_right_type_keeps_its_options(stage: str) -> None:
    wanted = STAGES[stage].image_processor["canvas"]["type"]
    for before in ({"type": wanted}, {"type": "single"}, {"type": "fila", "tile_grids": [[1, 2]]}):
        processor = tiny_processor(canvas=before)
        set_geometry(processor, stage)
        assert processor.image_processor.canvas == (before if before["type"] == wanted else {"type": wanted})
    processor.image_processor.canvas["type"] = "own"  # is no other model's, and not the table's
    assert STAGES[stage].image_processor["canvas"] == {"type": wanted}
    with pytest.raises(ValueError, match=r"must be one of \['align', 'finetune'\]; got 'warm'"):
        set_geometry(tiny_processor(), "warm")


@pytest.mark.parametrize("stage", STAGES)
def test_the_canvas_of_another_system_stays(stage: str) -> None:
    canvas = {"type": "square_pad", "exact": True}
    processor = tiny_processor(canvas=canvas)
    set_geometry(processor, stage)
    assert processor.image_processor.canvas == canvas
