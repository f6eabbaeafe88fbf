# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Two processes on gloo that train with TRL's GRPO trainer, and check each row against a forward pass of it alone."""

import os
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.helpers import tiny_model
from tests.training.test_trl_rollouts import assert_as_alone, recorded, trainer_of


def worker(rank: int, folder: Path) -> None:
    """Train two steps as one of two processes."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2, timeout=timedelta(seconds=300)
    )
    trainer = trainer_of(folder / str(rank), beta=0.1, steps_per_generation=2, max_steps=4, use_cpu=True)
    calls = recorded(trainer)
    trainer.train()
    assert_as_alone(calls, tiny_model(), all_prompts=False)
    (folder / f"{rank}.done").write_text(str(len(calls)), encoding="utf-8")
    dist.destroy_process_group()


def run(folder: Path) -> None:
    """Start the two processes and wait for both."""
    mp.spawn(worker, args=(folder,), nprocs=2)
