# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Two processes on gloo that each run every scenario of tests/training/test_distributed.py and keep what came out.

accelerate ignores its FSDP plugin on the CPU without a word, so FSDP2 is torch's `fully_shard` here, on the classes
that accelerate would wrap. One pair of processes serves all scenarios, because starting it takes longer than they do.
"""

import math
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from fila.training.data import questions
from fila.training.evaluation_callback import GenerativeEvalCallback
from fila.training.stages import select_trained
from fila.training.trainer import FilaTrainer
from tests.helpers import random_image, tiny_model, tiny_processor
from tests.training.samples import arguments, conversation, make_samples

STEPS = 3
LEARNING_RATE = 0.05
TIME_LIMIT = 300.0  # seconds for a scenario, from when both processes run; each takes about one on an idle machine

TEXT_ALONE: list[tuple[int, int]] = []
TWO_SIZES = [(20, 50), (90, 91)]
THREE_SIZES = [(20, 50), (90, 91), (61, 17)]
BATCHES = {  # image sizes in the batch of each process
    "text": (TEXT_ALONE, TWO_SIZES),
    "sizes": ([(20, 50)], THREE_SIZES),
}

BF16 = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)


def batch_of(sizes: list[tuple[int, int]]) -> dict[str, Any]:
    """A batch of one sample with images of these sizes."""
    text = "<image> a" * len(sizes) or "text alone"
    images = [[random_image(*size) for size in sizes]] if sizes else None
    inputs = tiny_processor()(text=[text], images=images, return_tensors="pt")
    return dict(inputs) | {"labels": inputs["input_ids"]}


def train(model: torch.nn.Module, batches: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Plain SGD on the mean of the batches' losses; returns the gradients of the first step."""
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=LEARNING_RATE)
    first: dict[str, torch.Tensor] = {}
    for _ in range(STEPS):
        optimiser.zero_grad()
        for batch in batches:
            (model(**batch).loss / len(batches)).backward()
        first = first or {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        optimiser.step()
    return first


def sharded(model: Any, **options: Any) -> Any:
    """Shard a model with FSDP2, a unit per block."""
    for module in list(model.modules()):
        if type(module).__name__ in model._no_split_modules:
            fully_shard(module, **options)
    return fully_shard(model, **options)


def whole(weights: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Gather sharded tensors."""
    return {
        name: weight.full_tensor() if hasattr(weight, "full_tensor") else weight for name, weight in weights.items()
    }


def checkpointed(model: Any) -> Any:
    """Switch gradient checkpointing on."""
    switch = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    switch({"use_reentrant": False})
    return model


def trained_with_fsdp2(
    rank: int, batches: str, prepare: Callable[[Any], Any] = lambda model: model, **options: Any
) -> dict[str, Any]:
    """Weights after three steps and gradients of the first."""
    model = sharded(prepare(tiny_model().train()), **options)
    gradients = train(model, [batch_of(BATCHES[batches][rank])])
    return {"weights": whole(model.state_dict()), "gradients": whole(gradients)}


def freeze_vision(model: Any) -> Any:
    model.model.vision_tower.requires_grad_(False)
    model.model.multi_modal_projector.requires_grad_(False)
    return model


def freeze_towers(model: Any) -> Any:
    select_trained(model, "align")
    return model


def trained_with_ddp(rank: int, prepare: Callable[[Any], Any] = lambda model: model) -> dict[str, Any]:
    """The same with data-parallel training, and how often the vision tower ran."""
    model = prepare(tiny_model().train())
    calls: list[int] = []
    model.model.vision_tower.register_forward_hook(lambda *_: calls.append(1))
    gradients = train(DistributedDataParallel(model, find_unused_parameters=False), [batch_of(BATCHES["text"][rank])])
    return {
        "weights": model.state_dict(),
        "gradients": {name.removeprefix("module."): gradient for name, gradient in gradients.items()},
        "calls": len(calls),
    }


def evaluate(rank: int, folder: Path) -> dict[str, Any]:
    """Logits and generated ids, where process 0 has no image, and how often the vision tower ran for them."""
    model = sharded(tiny_model())
    calls: list[int] = []
    model.model.vision_tower.register_forward_hook(lambda *_: calls.append(1))
    batch = batch_of(BATCHES["text"][rank])
    batch.pop("labels")
    tokens = [
        model.generate(**batch, max_new_tokens=4 + rank, do_sample=False, num_beams=beams, synced_gpus=True)
        for beams in (1, 2)
    ]
    with torch.no_grad():
        logits = model(**batch).logits
    return {"logits": logits, "tokens": tokens, "calls": len(calls)}


def save(rank: int, folder: Path) -> dict[str, Any]:
    """Save a trained sharded model: in shards, and as one checkpoint."""
    model = sharded(tiny_model().train())
    train(model, [batch_of(BATCHES["text"][rank])])
    dcp.save({"model": get_model_state_dict(model)}, checkpoint_id=str(folder / "shards"))
    full = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if rank == 0:
        model.save_pretrained(folder / "whole", state_dict=full)
    return {"weights": whole(model.state_dict())}


class Stream(torch.utils.data.IterableDataset[Any]):
    """Samples in their order, without a length; in the first step process 1 of two has text alone."""

    def __iter__(self) -> Any:
        samples, text = make_samples(8), conversation([], "Hm?", "No.")
        yield from [*samples[:2], text, text, *samples[4:]]


def run_trainer(folder: Path, batch_size: int, rank: int = 0, *, stream: bool = False) -> dict[str, Any]:
    """Weights and logs of a weighted run that is asked meanwhile."""
    samples = make_samples(8)
    settings = arguments(
        folder / f"trainer-{rank}",
        per_device_train_batch_size=batch_size,
        learning_rate=1e-2,
        max_grad_norm=0.0,
        optim="sgd",
        max_steps=2,
        resolution_loss_weight=True,
        loss_weight_base=40,
        loss_weight_mean_one=True,
        use_cpu=True,
    )
    trainer = FilaTrainer(
        tiny_model(), settings, processing_class=tiny_processor(), train_dataset=Stream() if stream else samples
    )
    callback = GenerativeEvalCallback(trainer, list(questions(samples[:3])), every=1, max_new_tokens=3)
    trainer.add_callback(callback)
    trainer.train()
    kept = ("loss", "eval_exact_match", "eval_character_error_rate")
    logs = [{name: entry[name] for name in kept if name in entry} for entry in trainer.state.log_history]
    weights = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    return {"weights": weights, "logs": [entry for entry in logs if entry], "world": settings.world_size}


SCENARIOS: dict[str, Callable[[int, Path], dict[str, Any]]] = {
    "ddp": lambda rank, _: trained_with_ddp(rank),
    "ddp-frozen-vision": lambda rank, _: trained_with_ddp(rank, freeze_vision),
    "fsdp2": lambda rank, _: trained_with_fsdp2(rank, "text"),
    "fsdp2-sizes": lambda rank, _: trained_with_fsdp2(rank, "sizes"),
    "fsdp2-checkpointing": lambda rank, _: trained_with_fsdp2(rank, "text", checkpointed),
    "fsdp2-checkpointing-sizes": lambda rank, _: trained_with_fsdp2(rank, "sizes", checkpointed),
    "fsdp2-frozen-vision": lambda rank, _: trained_with_fsdp2(rank, "text", freeze_vision),
    "fsdp2-frozen-towers": lambda rank, _: trained_with_fsdp2(rank, "sizes", freeze_towers),
    "fsdp2-bf16": lambda rank, _: trained_with_fsdp2(rank, "text", mp_policy=BF16),
    "evaluate": evaluate,
    "save": save,
    "trainer": lambda rank, folder: run_trainer(folder, 2, rank),
    "trainer-stream": lambda rank, folder: run_trainer(folder, 2, rank, stream=True),
}


def worker(rank: int, folder: Path) -> None:
    """Run every scenario as one of two processes."""
    (folder / f"start-{rank}.done").touch()
    torch.set_num_threads(1)
    # what accelerate looks for
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2, timeout=timedelta(seconds=TIME_LIMIT)
    )
    for name, scenario in SCENARIOS.items():
        torch.save(scenario(rank, folder), folder / f"{name}-{rank}.pt")
        (folder / f"{name}-{rank}.done").touch()
    dist.destroy_process_group()


def run(folder: Path) -> None:
    """Start the two processes; stop them and say in which scenario they were if they take too long."""
    context = mp.spawn(worker, args=(folder,), nprocs=2, join=False)
    assert context is not None
    # No limit before both have started: how long the imports take is the machine's affair.
    reached, deadline = 1, math.inf
    while not context.join(timeout=1, grace_period=1):
        if reached < (done := len(list(folder.glob("*.done")))):
            reached, deadline = done, time.monotonic() + TIME_LIMIT
        if time.monotonic() > deadline:
            for process in context.processes:
                process.kill()
            finished = [sorted(file.stem for file in folder.glob(f"*-{rank}.done")) for rank in range(2)]
            raise TimeoutError(f"The processes hang. Process 0 finished {finished[0]}, process 1 {finished[1]}.")
