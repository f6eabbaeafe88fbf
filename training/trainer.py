# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""`Trainer` with batches by resolution, a loss weighted by resolution, and checked checkpoints."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import TrainOutput
from transformers.utils import logging

from fila.processing.image_fingerprint import differing
from fila.processing.processing_fila import FilaProcessor

from .arguments import FilaTrainingArguments
from .checkpoints import last_complete_checkpoint, missing_files
from .collator import FilaCollator
from .data import is_generated, sample_sizes
from .loss_weight import weighted_loss
from .packing import PackedSamples, check_packing
from .sampler import ResolutionSampler, resolution_key
from .stages import select_trained

logger = logging.get_logger(__name__)


class _Epochs(TrainerCallback):
    """Callback that sets the epoch of collator and sampler."""

    def __init__(self, trainer: "FilaTrainer") -> None:
        self.trainer = trainer
        self.epoch = -1

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.epoch = -1
        # of a stream `state.epoch` counts the passes, and grows by less than 1 within each; a new run has 0
        if (state.epoch or 0) > 1 and not (hasattr(self.trainer.train_dataset, "__len__") or args.ignore_data_skip):
            logger.warning(
                f"The checkpoint of step {state.global_step} was saved in pass {int(state.epoch) + 1} over a stream. "
                "Trainer finds its place in the first pass alone: training goes on at the head of the stream, not "
                "where it stopped. A dataset with a length resumes exactly."
            )

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        # a resumed run does not begin with epoch 0; when a pass over a stream ends, `state.epoch` is no whole number
        self.epoch = max(self.epoch + 1, int(state.epoch or 0))
        parts: tuple[Any, ...] = (self.trainer.data_collator, self.trainer.resolution_sampler)
        for part in parts:
            if hasattr(part, "set_epoch"):
                part.set_epoch(self.epoch)


class _WholeCheckpoints(TrainerCallback):
    """Callback that stops a training run if a checkpoint would not open or resume on its own."""

    def __init__(self, trainer: "FilaTrainer") -> None:
        self.trainer = trainer

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        folder = Path(cast(str, args.output_dir)) / f"checkpoint-{state.global_step}"
        # the files of a sharded checkpoint depend on the plugin
        sharded = self.trainer.is_fsdp_enabled or self.trainer.is_deepspeed_enabled
        if not args.should_save or sharded or not folder.is_dir():  # Trainer has already deleted it
            return
        if missing := missing_files(folder, resumable=not args.save_only_model):
            raise RuntimeError(f"A checkpoint must open and resume by itself; {folder} lacks {missing}.")


class FilaTrainer(Trainer):
    """Trainer for [`FilaForConditionalGeneration`]; everything else works as in transformers' `Trainer`.

    Args:
        model: The model; `args.stage` decides which parameters train.
        args: [`FilaTrainingArguments`].
        processing_class: The [`FilaProcessor`]; it is saved into every checkpoint.
        data_collator: A [`FilaCollator`] made from the arguments by default; another collator must follow the
            arguments.
        kwargs: Other arguments of `Trainer`.

    Raises:
        ValueError: If there is no processor, options conflict, or the process has several GPUs.
    """

    args: FilaTrainingArguments
    processing_class: FilaProcessor
    data_collator: Any

    def __init__(
        self,
        model: PreTrainedModel | nn.Module,
        args: FilaTrainingArguments,
        *,
        processing_class: FilaProcessor | None = None,
        data_collator: Callable[[list[Any]], dict[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(args, FilaTrainingArguments):
            raise ValueError(
                f"FilaTrainer takes FilaTrainingArguments; got {type(args).__name__}. With those, use transformers' "
                "Trainer and pass a FilaCollator."
            )
        if processing_class is None:
            raise ValueError(
                "FilaTrainer needs the processor, to collate samples and to save it into every checkpoint; "
                "`processing_class` is None. Pass `processing_class=AutoProcessor.from_pretrained(...)`."
            )
        if hasattr(model, "config") and hasattr(processing_class, "check_tokens"):
            processing_class.check_tokens(cast(PreTrainedModel, model).config)
        if args.stage is not None:
            select_trained(model, args.stage)
        if data_collator is None:
            data_collator = FilaCollator(
                processing_class,
                max_length=args.max_length,
                random_scale=args.random_scale,
                seed=args.data_seed if args.data_seed is not None else args.seed,
                loss_weight=args.loss_weight,
            )
        _check_collator(args, data_collator)
        if args.packing:
            check_packing(model, data_collator)
            if kwargs.get("train_dataset") is not None:
                kwargs["train_dataset"] = _packed(kwargs["train_dataset"], args, processing_class)
        if args.loss_weight is not None:
            if kwargs.get("compute_loss_func") is not None:
                raise ValueError(
                    "`resolution_loss_weight` computes the loss itself; pass either it or `compute_loss_func`."
                )
            kwargs["compute_loss_func"] = self._weighted_loss
        self.resolution_sampler: ResolutionSampler | None = None
        self._loss_weights: torch.Tensor | None = None
        super().__init__(
            model=model, args=args, processing_class=processing_class, data_collator=data_collator, **kwargs
        )
        if self.args.n_gpu > 1:
            raise ValueError(
                f"FilaTrainer takes one process per GPU; this process has {self.args.n_gpu}, and Trainer would deal "
                "images out to them without regard to samples. Start it by `accelerate launch` or torchrun, or choose "
                "one GPU with CUDA_VISIBLE_DEVICES."
            )
        self.add_callback(_Epochs(self))
        self.add_callback(_WholeCheckpoints(self))

    def _keep_preprocessing(self) -> None:
        """Write the processor's preprocessing into the model's config, and warn of changed settings."""
        config, own = getattr(self.model, "config", None), self.processing_class.preprocessing()
        before = getattr(config, "preprocessing", None)
        if before is not None and (names := differing(before, own)):
            logger.warning(f"The model was trained with other preprocessing so far; what differs: {names}.")
        if config is not None:
            config.preprocessing = own

    def train(  # type: ignore[override]
        self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any
    ) -> TrainOutput:
        """Train; with `resume_from_checkpoint=True`, resume from the newest complete checkpoint."""
        if resume_from_checkpoint is True:
            found = last_complete_checkpoint(cast(str, self.args.output_dir))
            if found is None:
                raise ValueError(f"There must be a complete checkpoint-* to resume from in {self.args.output_dir}.")
            resume_from_checkpoint = str(found)
        self._keep_preprocessing()
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> Sampler[int] | None:
        if not self.args.group_by_resolution:
            return super()._get_train_sampler(train_dataset)
        dataset = self.train_dataset if train_dataset is None else train_dataset
        image_processor = self.processing_class.image_processor
        self.resolution_sampler = ResolutionSampler(
            [resolution_key(sizes, image_processor) for sizes in sample_sizes(dataset, image_processor.page_size)],
            self.args.train_batch_size * self.args.world_size,
            seed=self.args.data_seed if self.args.data_seed is not None else self.args.seed,
        )
        return self.resolution_sampler

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return Trainer's loader; raise an error if grouping needs sizes that the dataset cannot give."""
        data = self.train_dataset
        if self.args.group_by_resolution and (is_generated(data) or not hasattr(data, "__len__")):
            raise ValueError(
                "`group_by_resolution` looks at the sizes of all images before the first step, so it needs a training "
                f"set that is neither a stream nor generated; got {type(data).__name__}."
            )
        return super().get_train_dataloader()

    @contextmanager
    def _collator_for_evaluation(self) -> Iterator[None]:
        collator = self.data_collator
        if isinstance(collator, FilaCollator):
            self.data_collator = collator.for_evaluation()
        try:
            yield
        finally:
            self.data_collator = collator

    def get_eval_dataloader(self, eval_dataset: str | Dataset[Any] | None = None) -> DataLoader[Any]:
        """Return Trainer's loader, without augmentation and loss weights."""
        with self._collator_for_evaluation():
            return super().get_eval_dataloader(eval_dataset)

    def get_test_dataloader(self, test_dataset: Dataset[Any]) -> DataLoader[Any]:
        """Return Trainer's loader, without augmentation and loss weights."""
        with self._collator_for_evaluation():
            return super().get_test_dataloader(test_dataset)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """Return Trainer's batches; divide loss weights by their mean over the step's tokens if asked to."""
        batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.args.loss_weight_mean_one and batches:
            counts = [(batch["labels"][:, 1:] != -100).sum(1) for batch in batches]
            weights = [batch["loss_weight"] for batch in batches]
            totals = torch.stack([torch.cat(counts).sum(), (torch.cat(counts) * torch.cat(weights)).sum()])
            if self.args.world_size > 1:
                totals = self.accelerator.gather(totals.to(device)[None]).sum(0)
            mean = (totals[1] / totals[0]).to(weights[0])
            for batch in batches:
                batch["loss_weight"] = batch["loss_weight"] / mean
        return batches, num_items

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """Compute Trainer's loss, with the samples' weights taken from the inputs."""
        self._loss_weights = inputs.pop("loss_weight", None)
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def _weighted_loss(
        self,
        outputs: Mapping[str, torch.Tensor],
        labels: torch.Tensor,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        return weighted_loss(outputs["logits"], labels, self._loss_weights, num_items_in_batch)


def _packed(dataset: Any, args: FilaTrainingArguments, processor: FilaProcessor) -> PackedSamples:
    """Distribute the samples of a dataset over rows."""
    if isinstance(dataset, PackedSamples):
        return dataset
    if is_generated(dataset):
        raise ValueError(
            "`packing` measures all samples before the first step, so it needs a training set that is not generated; "
            f"got {type(dataset).__name__}."
        )
    seed = args.data_seed if args.data_seed is not None else args.seed
    length = cast(int, args.max_length)
    return PackedSamples(dataset, processor, length, max_views=args.packing_max_views, seed=seed)


def _check_collator(args: FilaTrainingArguments, collator: object) -> None:
    """Reject arguments that the caller's collator does not follow, and loss weights that the arguments do not use."""
    options = {"max_length": "max_length", "random_scale": "random_scale", "resolution_loss_weight": "loss_weight"}
    for name, option in options.items():
        if getattr(args, option) is not None and getattr(collator, option, None) is None:
            raise ValueError(f"`{name}` is for the default collator; set `{option}` of the `data_collator` as well.")
    if args.loss_weight is None and getattr(collator, "loss_weight", None) is not None:
        raise ValueError("The `data_collator` makes loss weights; they need `resolution_loss_weight`, which is false.")
