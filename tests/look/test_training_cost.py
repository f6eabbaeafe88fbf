# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""What a config tells of its training is what training does: operations, bytes alive at once, trained parameters."""

import copy
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fila.look.training_cost import (
    TrainingCost,
    TrainingPass,
    flash_attention,
    gpu_rows,
    make_trainable,
    training_cost,
)
from fila.processing.canvas_plan import Size
from fila.systems.meta_model import model_on_meta
from fila.training.stages import STAGES, select_trained, set_geometry
from tests.cases import each
from tests.helpers import single_tower, tiny_canvas_processor, tiny_config, tiny_model

SIZE = Size(70, 50)
NATIVE: dict[str, Any] = {**single_tower(), "vision_feature_select": "patch"}
COST = TrainingCost(
    stage="finetune",
    parameters=10,
    trained=10,
    tokens=5,
    flops=1e12,
    activation_bytes=7,
    state_bytes=160,
    gathered_bytes=3,
)


def passes(stage: str, checkpointing: bool, canvas: str = "fila", **changes: Any) -> list[TrainingPass]:
    """The same pass without data and with it."""
    config = tiny_config(**changes)
    processor = tiny_canvas_processor({"type": canvas})
    if config.high_res_vision_config is None:
        processor.image_processor.high_res_size = None
    set_geometry(processor, stage)
    made = []
    for model in (model_on_meta(config), tiny_model(**changes)):
        make_trainable(model, stage, checkpointing=checkpointing)
        made.append(TrainingPass(model, copy.deepcopy(processor), SIZE, text_tokens=20))
    return made


def operations(of: TrainingPass) -> tuple[int, int]:
    """Operations outside of attention's products, and all of them."""
    with flash_attention(), FlopCounterMode(display=False) as counter:
        of.run()
    found = counter.get_flop_counts()["Global"]
    rest = sum(count for operator, count in found.items() if "attention" not in str(operator))
    return rest, sum(found.values())


@each("stage, checkpointing", [(stage, checkpointing) for stage in STAGES for checkpointing in (False, True)])
def test_pass_without_data_is_the_real_one(stage: str, checkpointing: bool) -> None:
    counted, real = passes(stage, checkpointing)
    assert counted.tokens == real.tokens
    assert counted.count_bytes() == pytest.approx(real.count_bytes(), rel=0.05)
    rest, total = operations(counted)
    assert rest == operations(real)[0]  # torch counts no operation in the CPU's attention
    assert total > rest
    assert counted.count_flops() == total


def test_checkpointing_costs_operations_and_saves_memory() -> None:
    kept, repeated = passes("finetune", False)[0], passes("finetune", True)[0]
    assert repeated.count_flops() > kept.count_flops()
    assert repeated.count_bytes() < kept.count_bytes()


def test_canvases_of_other_systems_are_counted() -> None:
    counted, real = passes("finetune", True, canvas="internvl", **NATIVE)
    assert counted.count_bytes() == pytest.approx(real.count_bytes(), rel=0.05)


@pytest.mark.parametrize("stage", list(STAGES))
def test_states_are_those_of_adamw(stage: str) -> None:
    model = tiny_model()
    trained = select_trained(model, stage)
    parameters = dict(model.named_parameters())
    optimizer = torch.optim.AdamW([parameters[name] for name in trained])
    for name in trained:
        parameters[name].grad = torch.zeros_like(parameters[name])
    optimizer.step()
    moments = [state[key] for state in optimizer.state.values() for key in ("exp_avg", "exp_avg_sq")]
    held = [*parameters.values(), *(parameters[name].grad for name in trained), *moments]
    cost = training_cost(
        tiny_config(), tiny_canvas_processor({"type": "fila"}), stage, [SIZE, Size(30, 30)], text_tokens=20
    )
    assert cost.state_bytes == sum(each.nbytes for each in held if each is not None)
    assert cost.trained == sum(parameters[name].numel() for name in trained)


def test_gpus_share_states_and_samples() -> None:
    assert COST.gpu_bytes(1) - COST.gpu_bytes(4) == 160 - 40
    assert COST.days(86_400, 1, 1e12) == 1
    assert COST.days(86_400, 4, 1e12) == 0.25
    header, *rows = gpu_rows([COST], {"finetune": 864_000}, tflops=1)
    assert header == ["GPUs", "finetune GiB each", "finetune days"]
    assert rows[0][2] == "10.00"


def test_unknown_stage_is_refused() -> None:
    with pytest.raises(ValueError, match="The training stage must be one of"):
        training_cost(tiny_config(), tiny_canvas_processor({"type": "fila"}), "third", [SIZE], text_tokens=1)
