# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Two processes on gloo, one with text alone and one with two images: nobody waits, and they train as one process."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from tests.helpers import assert_close, random_image, tiny_model, tiny_processor

STEPS = 3
LEARNING_RATE = 0.05


def batch_of(rank: int) -> dict[str, Any]:
    processor = tiny_processor()
    if rank == 0:
        inputs = processor(text=["text alone"], return_tensors="pt")
    else:
        images = [[random_image(20, 50), random_image(90, 91)]]
        inputs = processor(text=["<image> a <image>"], images=images, return_tensors="pt")
    return dict(inputs) | {"labels": inputs["input_ids"]}


def train(model: torch.nn.Module, batches: list[dict[str, Any]]) -> None:
    """Plain SGD on the mean of the batches' losses."""
    optimiser = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    for _ in range(STEPS):
        optimiser.zero_grad()
        for batch in batches:
            (model(**batch).loss / len(batches)).backward()
        optimiser.step()


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    data_parallel = DistributedDataParallel(tiny_model().train(), find_unused_parameters=False)
    train(data_parallel, [batch_of(rank)])
    if rank == 0:
        torch.save(data_parallel.module.state_dict(), f"{folder}/weights.pt")
    dist.destroy_process_group()


@pytest.mark.timeout(120)
def test_two_processes_train_as_one_when_one_has_no_image(tmp_path: Path) -> None:
    mp.spawn(worker, args=(str(tmp_path),), nprocs=2)
    trained = torch.load(tmp_path / "weights.pt", weights_only=True)
    alone = tiny_model().train()
    train(alone, [batch_of(0), batch_of(1)])
    start, expected = tiny_model().state_dict(), alone.state_dict()
    assert set(trained) == set(expected)
    for name, weight in expected.items():
        assert_close(trained[name], weight, 1e-5)
    moved = "model.vision_tower.fusion.layers.0.fc1.weight"
    assert (expected[moved] - start[moved]).any()


def test_text_alone_touches_every_trainable_parameter_with_zero_gradient() -> None:
    model = tiny_model().train()
    model(**batch_of(0)).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if "vision_tower" in name or "multi_modal_projector" in name:
            assert torch.count_nonzero(parameter.grad) == 0, name


def test_text_alone_costs_no_vision_pass_when_nothing_of_it_trains() -> None:
    model = tiny_model()
    calls = []
    model.model.vision_tower.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        expected = model(**batch_of(0)).logits
        assert torch.equal(model.train()(**batch_of(0)).logits, expected)
    for part in (model.model.vision_tower, model.model.multi_modal_projector):
        part.requires_grad_(False)
    model(**batch_of(0))
    assert calls == []
