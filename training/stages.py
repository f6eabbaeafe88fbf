# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The training stages of FILA as data: trained parameters, image geometry and default arguments.

Paper: Zhu et al., "FILA: Fine-Grained Vision Language Models", arXiv:2412.08378. Stage 1 trains the fusion and the
connector on whole images at 336 and 768 pixels; stage 2 turns dynamic cropping on and trains everything. The state of
the high-res tower in stage 1 is not stated; it is frozen here, as both towers of the relatives are
(docs/decisions.md).

The default arguments are ours: learning rates, warm-up and schedule of LLaVA-1.5's two stages (arXiv:2310.03744).

The architecture never depends on the stage: a stage only names parameters and settings.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from torch import nn

from fila.processing.processing_fila import FilaProcessor


@dataclass(frozen=True)
class Stage:
    """One training stage.

    Attributes:
        name: Name on the command line.
        trained: Prefixes of the trained parameters of `FilaForConditionalGeneration`.
        image_processor: Settings of the image processor: the canvas.
        arguments: Defaults of the training arguments.
    """

    name: str
    trained: tuple[str, ...]
    image_processor: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    arguments: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


_SCHEDULE = {"warmup_steps": 0.03, "lr_scheduler_type": "cosine"}  # warm-up as a share of all steps

STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            "align",
            trained=("model.vision_tower.fusion.", "model.multi_modal_projector.", "model.injection."),
            image_processor=MappingProxyType({"canvas": {"type": "single"}}),
            arguments=MappingProxyType({"learning_rate": 1e-3, **_SCHEDULE}),
        ),
        Stage(
            "finetune",
            trained=("model.", "lm_head."),
            image_processor=MappingProxyType({"canvas": {"type": "fila"}}),
            arguments=MappingProxyType({"learning_rate": 2e-5, **_SCHEDULE}),
        ),
    )
}


def find_stage(name: str) -> Stage:
    """Return the training stage of that name.

    Raises:
        ValueError: If there is none.
    """
    if name not in STAGES:
        raise ValueError(f"The training stage must be one of {sorted(STAGES)}; got {name!r}.")
    return STAGES[name]


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
    prefixes = find_stage(stage).trained
    trained = [name for name, _ in model.named_parameters() if name.startswith(prefixes)]
    if not trained:
        raise ValueError(
            f"Stage {stage!r} trains {list(prefixes)}, and {type(model).__name__} has no such parameter. "
            "Pass the whole FilaForConditionalGeneration, or no stage where adapters chose what trains."
        )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(prefixes))
    return trained


def set_geometry(processor: FilaProcessor, stage: str) -> None:
    """Give a processor the image geometry of a stage.

    A canvas of the stage's type keeps its options. A canvas that no stage has is kept too, so a checkpoint of another
    system trains on the views that it knows. The whole images of a video model with one tower are also kept. A
    replaced canvas loses its options.

    Args:
        processor: A `FilaProcessor`.
        stage: A name in `STAGES`.

    Raises:
        ValueError: If there is no such stage.
    """
    image_processor, settings = processor.image_processor, find_stage(stage).image_processor
    if processor.video_processor is not None and image_processor.high_res_size is None:
        return
    of_stages = {each.image_processor["canvas"]["type"] for each in STAGES.values()}
    if image_processor.canvas["type"] in of_stages - {settings["canvas"]["type"]}:
        image_processor.canvas = dict(settings["canvas"])
