# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The training stages of FILA, as data: what each trains and at which geometry.

Paper: Zhu et al., "FILA: Fine-Grained Vision Language Models", arXiv:2412.08378. Stage 1 trains the fusion and the
connector on whole images at 336 and 768 pixels; stage 2 turns dynamic cropping on and trains everything. The state of
the high-res tower in stage 1 is not stated; it is frozen here, as both towers of the relatives are
(docs/decisions.md).

The architecture never depends on the stage: a stage names parameters and settings of the image processor, no more.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Stage:
    """One training stage.

    Attributes:
        name: How the command line calls it.
        trained: Prefixes of the parameters of `FilaForConditionalGeneration` that it trains.
        image_processor: Settings of the image processor that it changes.
    """

    name: str
    trained: tuple[str, ...]
    image_processor: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            "align",
            trained=("model.vision_tower.fusion.", "model.multi_modal_projector."),
            image_processor=MappingProxyType({"canvas": {"type": "single"}}),
        ),
        Stage(
            "finetune", trained=("model.", "lm_head."), image_processor=MappingProxyType({"canvas": {"type": "fila"}})
        ),
    )
}


def select_trained(model: nn.Module, stage: str) -> list[str]:
    """Freeze every parameter of a model that a stage does not train, and free the others.

    Args:
        model: A `FilaForConditionalGeneration`.
        stage: A name in `STAGES`.

    Returns:
        Names of the parameters that train, in the model's order.

    Raises:
        ValueError: If there is no such stage, or it trains nothing of this model.
    """
    if stage not in STAGES:
        raise ValueError(f"The training stage must be one of {sorted(STAGES)}; got {stage!r}.")
    trained = []
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(STAGES[stage].trained))
        if parameter.requires_grad:
            trained.append(name)
    if not trained:
        raise ValueError(
            f"Stage {stage!r} trains {list(STAGES[stage].trained)}, and {type(model).__name__} has no such parameter. "
            "Pass the whole FilaForConditionalGeneration."
        )
    return trained
