# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Training arguments: transformers' own, and arguments for images of many resolutions."""

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import TrainingArguments

from .loss_weight import ResolutionWeight
from .stages import STAGES, find_stage

_BY_STAGE = ("learning_rate", "warmup_steps", "lr_scheduler_type")


@dataclass
class FilaTrainingArguments(TrainingArguments):
    r"""`TrainingArguments` with changed defaults and additional arguments.

    The defaults differ for `learning_rate`, `warmup_steps` and `lr_scheduler_type` (the stage's, see `STAGES`),
    `remove_unused_columns` (`False`: the collator reads `images` and `messages`), `dataloader_pin_memory` (only with
    an accelerator), `accelerator_config` (`dispatch_batches` is `False`: every process reads streams itself) and
    `ddp_find_unused_parameters` (`False`: there are none). `label_smoothing_factor` must stay 0.

    Args:
        stage (`str`, *optional*, defaults to `"finetune"`):
            Name of the training stage, which chooses what trains; `None` trains what has `requires_grad`, such as
            adapters.
        max_length (`int`, *optional*):
            Longest sequence in tokens, see `FilaCollator`.
        group_by_resolution (`bool`, *optional*, defaults to `False`):
            Put images of like resolution into one batch; needs a dataset with a length.
        packing (`bool`, *optional*, defaults to `False`):
            Put several samples into one row of at most `max_length` tokens, see `packing.py`. A batch is one row:
            `per_device_train_batch_size` must be 1.
        packing_max_views (`int`, *optional*):
            Views of images that a row may hold, if the memory of the towers is what limits it.
        random_scale (`list[float]`, *optional*):
            Bounds of the factor by which training images are resized at random, for instance `0.5 1.0`.
        resolution_loss_weight (`bool`, *optional*, defaults to `False`):
            Weight each sample's loss with 1 + |1 - sqrt(height * width) / base|.
        loss_weight_base (`float`, *optional*, defaults to 256):
            The base, in pixels.
        loss_weight_max (`float`, *optional*):
            Upper limit of a weight.
        loss_weight_mean_one (`bool`, *optional*, defaults to `False`):
            Divide the weights by their mean over the tokens of a step.
    """

    learning_rate: float | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "The stage's if not given."}
    )
    warmup_steps: float | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Steps, or a share below 1; the stage's."}
    )
    lr_scheduler_type: Any = field(default=None, metadata={"help": "The stage's if not given."})
    remove_unused_columns: bool | None = field(  # type: ignore[assignment]
        default=False, metadata={"help": "Must stay false."}
    )
    ddp_find_unused_parameters: bool | None = field(default=False, metadata={"help": "There are none to find."})
    stage: str | None = field(
        default="finetune", metadata={"help": "What trains: a training stage.", "choices": [*STAGES, None]}
    )
    max_length: int | None = field(default=None, metadata={"help": "Longest sequence in tokens."})
    group_by_resolution: bool = field(default=False, metadata={"help": "Batches of like resolution."})
    packing: bool = field(default=False, metadata={"help": "Several samples in a row of `max_length` tokens."})
    packing_max_views: int | None = field(default=None, metadata={"help": "Most views of images in such a row."})
    random_scale: list[float] | None = field(default=None, metadata={"help": "Bounds of a random resizing."})
    resolution_loss_weight: bool = field(default=False, metadata={"help": "Weight the loss by resolution."})
    loss_weight_base: float = field(default=256.0, metadata={"help": "Side in pixels that has weight 1."})
    loss_weight_max: float | None = field(default=None, metadata={"help": "Upper limit of a weight."})
    loss_weight_mean_one: bool = field(default=False, metadata={"help": "Divide weights by their mean."})

    def __post_init__(self) -> None:
        defaults = find_stage(self.stage).arguments if self.stage is not None else {}
        for name in _BY_STAGE:
            if getattr(self, name) is None:
                setattr(self, name, defaults.get(name, TrainingArguments.__dataclass_fields__[name].default))
        super().__post_init__()
        if self.remove_unused_columns:
            raise ValueError(
                "`remove_unused_columns` must be false; it is true. The collator reads the columns `images` and "
                "`messages`, which the model does not know."
            )
        if self.label_smoothing_factor:
            # Trainer shifts labels only for model classes in its own table; our model would learn to repeat tokens
            raise ValueError(
                f"`label_smoothing_factor` must be 0; got {self.label_smoothing_factor}. Trainer would compare each "
                "token with itself, not with the next one."
            )
        if not self.resolution_loss_weight and (self.loss_weight_max is not None or self.loss_weight_mean_one):
            raise ValueError(
                "`loss_weight_max` and `loss_weight_mean_one` need `resolution_loss_weight`, which is false."
            )
        if self.packing:
            self._check_packing()
        elif self.packing_max_views is not None:
            raise ValueError("`packing_max_views` needs `packing`, which is false.")
        loading: Any = self.accelerator_config  # an `AcceleratorConfig` by now
        if loading.dispatch_batches is None:
            # by default one process reads a stream and splits batches by rows, but rows of images are not rows of
            # samples
            loading.dispatch_batches = False
        if not torch.accelerator.is_available():
            self.dataloader_pin_memory = False

    def _check_packing(self) -> None:
        if self.max_length is None:
            raise ValueError("`packing` needs `max_length`, the number of tokens that a row may hold.")
        if self.per_device_train_batch_size != 1:
            raise ValueError(
                f"With `packing` a batch is one row: `per_device_train_batch_size` must be 1; got "
                f"{self.per_device_train_batch_size}. `max_length` says how many tokens it may hold."
            )
        others = ("group_by_resolution", "random_scale", "resolution_loss_weight")
        if given := [name for name in others if getattr(self, name)]:
            raise ValueError(
                f"`packing` cannot go with {given}: a row holds samples of all resolutions, whose lengths are known "
                "before the first step."
            )

    @property
    def loss_weight(self) -> ResolutionWeight | None:
        """Return the function that weights a sample, or None if all samples weigh the same."""
        if not self.resolution_loss_weight:
            return None
        return ResolutionWeight(base=self.loss_weight_base, maximum=self.loss_weight_max)
