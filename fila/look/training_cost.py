# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Cost of training: operations, memory and days of a stage, from a config alone.

No part has a formula. The forward and backward pass of one sample runs on meta tensors, which have shapes and no data;
torch's `FlopCounterMode` counts its operations, and a dispatch mode the bytes that are alive at once. Attention is
counted as FlashAttention runs it: whole squares, and no matrix of weights in memory. An operation is a multiplication
or an addition; those that checkpointing repeats count again.
"""

import copy
import functools
import gc
import json
import weakref
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any, cast
from unittest import mock

import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from fila.modeling.configuration_fila import FilaConfig
from fila.modeling.modeling_fila import FilaForConditionalGeneration
from fila.processing.canvas_plan import Size
from fila.processing.processing_fila import FilaProcessor
from fila.systems.meta_model import model_on_meta
from fila.training.stages import STAGES, select_trained, set_geometry

# Bytes of a trained parameter in mixed precision: weight and gradient in float32, the two moments of AdamW.
WEIGHT, GRADIENT, MOMENTS = 4, 4, 8
SAMPLES = {"align": 558_000, "finetune": 665_000}  # of LLaVA-1.5's two stages
GPUS = (1, 8, 16, 32, 64)
DAY = 86_400


@dataclass(frozen=True)
class TrainingCost:
    """Cost of one training stage; a sample is the mean of the given images, each with the text.

    Attributes:
        stage: Name of the stage.
        parameters: Parameters of the model.
        trained: Those that the stage trains.
        tokens: Tokens of a sample: of its image, and of text.
        flops: Operations of a sample, forward and backward.
        activation_bytes: Most bytes of activations that are alive at once in the pass of the largest sample.
        state_bytes: Weights in float32, gradients and AdamW's moments; GPUs share them (FSDP2).
        gathered_bytes: bfloat16 weights that every GPU holds at once: what is in no unit, and two units.
    """

    stage: str
    parameters: int
    trained: int
    tokens: float
    flops: float
    activation_bytes: int
    state_bytes: int
    gathered_bytes: int

    def gpu_bytes(self, gpus: int) -> float:
        """Return the bytes on each of so many GPUs with one sample at a time."""
        return self.state_bytes / gpus + self.gathered_bytes + self.activation_bytes

    def days(self, samples: int, gpus: int, flops_per_second: float) -> float:
        """Return the days for so many samples on GPUs that sustain so many operations per second each."""
        return samples * self.flops / (gpus * flops_per_second) / DAY


def training_cost(
    config: FilaConfig,
    processor: FilaProcessor,
    stage: str,
    sizes: Sequence[Size],
    *,
    text_tokens: int,
    dtype: torch.dtype = torch.bfloat16,
    checkpointing: bool = True,
) -> TrainingCost:
    """Count what a training stage costs.

    Args:
        config: The model's config.
        processor: Its processor; the stage's canvas takes the place of its own, as in `fila train`.
        stage: A name in `fila.training.stages.STAGES`.
        sizes: Sizes of images, (height, width) in pixels; each stands for as many samples.
        text_tokens: Tokens of question and answer in a sample.
        dtype: What the pass computes in.
        checkpointing: Whether layers keep only their input, as in `fila train`.

    Raises:
        ValueError: If there is no such stage, or it trains nothing of this model.
    """
    processor = copy.deepcopy(processor)
    set_geometry(processor, stage)
    model = model_on_meta(config)
    cast(nn.Module, model).to(dtype)
    make_trainable(model, stage, checkpointing=checkpointing)
    passes = [TrainingPass(model, processor, size, text_tokens) for size in sizes]
    return TrainingCost(
        stage=stage,
        parameters=model.num_parameters(),
        trained=model.num_parameters(only_trainable=True),
        tokens=sum(each.tokens for each in passes) / len(passes),
        flops=sum(each.count_flops() for each in passes) / len(passes),
        activation_bytes=max(each.count_bytes() for each in passes),
        state_bytes=state_bytes(model),
        gathered_bytes=_gathered(model) * torch.bfloat16.itemsize,
    )


def make_trainable(model: FilaForConditionalGeneration, stage: str, *, checkpointing: bool) -> None:
    """Bring a model into the state in which a stage trains it, with or without activation checkpointing."""
    select_trained(model.train(), stage)
    if checkpointing:  # older transformers has the second name, newer ones warn of it
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})


def state_bytes(model: FilaForConditionalGeneration) -> int:
    """Return the bytes of weights, and of the gradients and AdamW's moments of what trains."""
    return WEIGHT * model.num_parameters() + (GRADIENT + MOMENTS) * model.num_parameters(only_trainable=True)


def _gathered(model: FilaForConditionalGeneration) -> int:
    """Count the parameters in no unit of FSDP2, plus those of the two largest units."""
    units = [module for module in model.modules() if type(module).__name__ in (model._no_split_modules or ())]
    inside = {parameter for unit in units for parameter in unit.parameters()}
    sizes = sorted(sum(parameter.numel() for parameter in unit.parameters()) for unit in units)
    return sum(each.numel() for each in model.parameters() if each not in inside) + sum(sizes[-2:])


class TrainingPass:
    """The forward and backward pass of one sample on the model's device, without an optimizer.

    Args:
        model: The model, with what trains chosen.
        processor: Its processor.
        size: (height, width) of the image.
        text_tokens: Tokens of text after the image.
    """

    def __init__(
        self, model: FilaForConditionalGeneration, processor: FilaProcessor, size: Size, text_tokens: int
    ) -> None:
        self.model = model
        blank = Image.new("RGB", (size[1], size[0]))
        inputs = cast(Any, processor)(images=blank, text=processor.image_token, return_tensors="pt")
        self.tokens = inputs.pop("input_ids").shape[1] + text_tokens
        inputs.pop("attention_mask", None)
        pixels = {
            name: value.to(model.device, model.dtype) for name, value in inputs.items() if value.is_floating_point()
        }
        self.inputs = {**inputs, **pixels}  # integers keep their values: the geometry is read from them
        # a mask of four axes is used as it is; the model looks at what it makes of none, and meta tensors have no data
        square = (1, 1, self.tokens, self.tokens)
        self.mask = torch.ones(square, dtype=torch.bool, device="meta") if model.device.type == "meta" else None

    def run(self) -> None:
        """Run the pass; gradients are dropped as they come."""
        model, device = self.model, self.model.device
        image = torch.cat(list(model.get_image_features(**self.inputs).pooler_output))
        ids = torch.zeros(self.tokens - len(image), dtype=torch.long, device=device)
        embeds = torch.cat([image, model.get_input_embeddings()(ids)])[None]
        output = model.model.language_model(inputs_embeds=embeds, attention_mask=self.mask, use_cache=False)
        logits = model.get_output_embeddings()(output.last_hidden_state)
        labels = torch.zeros(1, self.tokens, dtype=torch.long, device=device)
        loss = model.loss_function(logits=logits, labels=labels, vocab_size=logits.shape[-1])
        del output, logits
        dropped = [
            each.register_post_accumulate_grad_hook(_drop_gradient)
            for each in model.parameters()
            if each.requires_grad
        ]
        cast(torch.Tensor, loss).backward()  # type: ignore[no-untyped-call]
        for hook in dropped:
            hook.remove()

    def count_flops(self) -> int:
        """Return the operations of the pass."""
        with flash_attention(), FlopCounterMode(display=False) as counter:
            self.run()
        return int(counter.get_total_flops())

    def count_bytes(self) -> int:
        """Return the most bytes that are alive at once in the pass, without weights and whole gradients."""
        gc.collect()  # what earlier passes left
        known = [*self.model.parameters(), *self.model.buffers(), *self.inputs.values()]
        known += [] if self.mask is None else [self.mask]
        with flash_attention(), LiveBytes(known) as live:
            self.run()
        return live.most


def _drop_gradient(parameter: nn.Parameter) -> None:
    parameter.grad = None


def flash_attention() -> AbstractContextManager[Any]:
    """Let attention on meta tensors be FlashAttention's operator, which torch otherwise chooses for GPUs alone."""
    own = functional.scaled_dot_product_attention

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if query.device.type != "meta":
            return own(query, key, value, *args, **kwargs)
        repeats = query.shape[1] // key.shape[1]
        if repeats > 1:
            key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
        return cast(torch.Tensor, torch.ops.aten._scaled_dot_product_flash_attention(query, key, value)[0])

    return mock.patch.object(functional, "scaled_dot_product_attention", attend)


class LiveBytes(TorchDispatchMode):
    """Counter of the bytes of tensors that are made inside of it and alive at once.

    Args:
        known: Tensors whose bytes do not count.

    Attributes:
        most: The most bytes so far.
    """

    def __init__(self, known: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.alive = 0
        self.most = 0
        self.storages: dict[int, Any] = {id(each.untyped_storage()): each.untyped_storage() for each in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and count the bytes of what it makes."""
        result = func(*args, **(kwargs or {}))
        for made in tree_leaves(result):
            if isinstance(made, torch.Tensor):
                storage = made.untyped_storage()
                key, size = id(storage), storage.nbytes()
                if key not in self.storages:
                    self.alive += size
                    self.most = max(self.most, self.alive)
                    self.storages[key] = weakref.ref(storage, functools.partial(self._drop, key, size))
        return result

    def _drop(self, key: int, size: int, _: object) -> None:
        del self.storages[key]
        self.alive -= size


def stage_costs(
    config: FilaConfig, processor: FilaProcessor, sizes: Sequence[Size], text_tokens: int
) -> list[TrainingCost]:
    """Return the costs of all training stages, in their order."""
    return [training_cost(config, processor, stage, sizes, text_tokens=text_tokens) for stage in STAGES]


def as_json(costs: Sequence[TrainingCost]) -> str:
    """Convert costs to a JSON list."""
    return json.dumps([asdict(cost) for cost in costs], indent=2)


def as_rows(costs: Sequence[TrainingCost]) -> list[list[str]]:
    """Convert costs to rows of a table; the first row has the names of the columns."""
    rows = [["stage", "parameters", "trained", "tokens", "TFLOP", "activations GiB", "weights and optimizer GiB"]]
    for cost in costs:
        counts = [f"{number / 1e9:,.3f} B" for number in (cost.parameters, cost.trained)]
        sizes = [f"{size / 2**30:,.1f}" for size in (cost.activation_bytes, cost.state_bytes)]
        rows.append([cost.stage, *counts, f"{cost.tokens:,.0f}", f"{cost.flops / 1e12:,.1f}", *sizes])
    return rows


def gpu_rows(costs: Sequence[TrainingCost], samples: dict[str, int], tflops: float) -> list[list[str]]:
    """Convert costs to rows of memory and days by number of GPUs; the first row has the names of the columns."""
    rows = [["GPUs", *(f"{cost.stage} {what}" for cost in costs for what in ("GiB each", "days"))]]
    for gpus in GPUS:
        row = [str(gpus)]
        for cost in costs:
            days = cost.days(samples[cost.stage], gpus, tflops * 1e12)
            row += [f"{cost.gpu_bytes(gpus) / 2**30:,.1f}", f"{days:,.2f}"]
        rows.append(row)
    return rows
